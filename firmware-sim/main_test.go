package main

import (
	"io"
	"testing"
)

// TestSampleConfig: the sample is one that works.
func TestSampleConfig(t *testing.T) {
	s, err := parseSettings([]string{"--config", "../configs/firmware-sim.yaml"}, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.fleet()
	if err != nil || len(f.QoS) != 3 || len(f.Versions) != 3 || f.Count != 60 {
		t.Errorf("%v: %+v", err, f)
	}
}
