package main

import (
	"io"
	"testing"
	"time"
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

// TestDurations: every time takes days.
func TestDurations(t *testing.T) {
	s, err := parseSettings([]string{"--interval", "1d", "--duration", "1w"}, nil, io.Discard)
	if err != nil || s.interval != 24*time.Hour || s.duration != 7*24*time.Hour {
		t.Errorf("%v, %v: %v", s.interval, s.duration, err)
	}
}
