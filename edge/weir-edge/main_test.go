package main

import (
	"io"
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
