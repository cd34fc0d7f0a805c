package main

import (
	"io"
	"strings"
	"testing"
)

// TestSampleConfig: the sample beside the flags' documentation is one that
// works.
func TestSampleConfig(t *testing.T) {
	s, err := parse([]string{"--config", "../../configs/weir-edge.yaml"}, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.data != "/var/lib/weir-edge" {
		t.Errorf("data is %q", s.data)
	}
}

// TestDeviceLimits: a limit that cannot be meant is refused with the flag's
// name.
func TestDeviceLimits(t *testing.T) {
	for _, args := range [][]string{
		{"--mqtt-connections", "0"}, {"--mqtt-connections-per-address", "-1"}, {"--mqtt-connecting", "0"},
		{"--mqtt-arriving", "1000"}, {"--mqtt-client-state", "10"}, {"--mqtt-sessions", "0"},
		{"--mqtt-state", "1000"}, {"--mqtt-state", "900000000"}, {"--mqtt-connect-timeout", "1ms"},
		{"--mqtt-packet-timeout", "0"}, {"--mqtt-session-expiry", "10ms"},
	} {
		if _, err := parse(args, nil, io.Discard); err == nil || !strings.Contains(err.Error(), args[0]+" ") {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := parse([]string{"--mqtt-state", "33554432", "--mqtt-session-expiry", "0"}, nil, io.Discard); err != nil {
		t.Error(err)
	}
}
