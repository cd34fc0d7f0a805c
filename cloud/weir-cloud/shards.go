package main

import (
	"fmt"
	"strconv"
	"time"
)

// auto is the value of --shards with which shards are split by themselves.
const auto = "auto"

// autoTime is how long the nodes must have been the same before that is done.
const autoTime = 3 * time.Minute

// autoTime returns that time if --shards is auto, else 0.
func (s settings) autoTime() time.Duration {
	if s.autoShards {
		return autoTime
	}
	return 0
}

// shardsFlag is the value of --shards: a number, or auto.
type shardsFlag struct {
	number *int
	auto   *bool
}

// Set implements pflag.Value.
func (f shardsFlag) Set(text string) error {
	if *f.auto = text == auto; *f.auto {
		*f.number = 0
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%q is neither a number nor %s", text, auto)
	}
	*f.number = n
	return nil
}

// String implements pflag.Value.
func (f shardsFlag) String() string {
	switch {
	case f.number == nil:
		return ""
	case *f.auto:
		return auto
	}
	return strconv.Itoa(*f.number)
}

// Type implements pflag.Value.
func (f shardsFlag) Type() string { return "number" }
