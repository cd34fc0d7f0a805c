package split

import (
	"strings"
	"testing"
	"time"
)

// TestAuto: each rule of splitting by itself, and what is said.
func TestAuto(t *testing.T) {
	const stable = 3 * time.Minute
	for name, c := range map[string]struct {
		change func(*Seen)
		data   int
		says   string
	}{
		"more nodes than shards": {func(s *Seen) {}, 4, "3 with data for 5 nodes"},
		"the first split":        {func(s *Seen) { s.Data = 1 }, 5, "1 with data"},
		"as many":                {func(s *Seen) { s.Logs = 3 }, 0, "3 with data for 3 nodes"},
		"fewer nodes":            {func(s *Seen) { s.Logs = 1 }, 0, "3 with data for 1 nodes"},
		"one node alone":         {func(s *Seen) { s.Data, s.Logs = 1, 1 }, 0, "1 with data for 1 nodes"},
		"slices move":            {func(s *Seen) { s.Moving = true }, 0, "slices that move"},
		"a node is silent":       {func(s *Seen) { s.Silent = []string{"a", "b"} }, 0, "do not answer: a, b"},
		"a node drains":          {func(s *Seen) { s.Draining = []string{"c"} }, 0, "hand their shards over: c"},
		"a shard is not served":  {func(s *Seen) { s.Unserved = 2 }, 0, "2 are not"},
		"the last one failed":    {func(s *Seen) { s.Failed = "why" }, 4, "has failed, and there will be another one: why"},
		"a node has just come":   {func(s *Seen) { s.Same = stable - 1 }, 0, "the same for 3m"},
	} {
		s := Seen{Data: 3, Logs: 5, Same: stable}
		c.change(&s)
		if data, why := Auto(s, stable); data != c.data || !strings.Contains(why, c.says) {
			t.Errorf("%s: %d, %q", name, data, why)
		}
	}
}

// TestPause: while splits fail, they become rarer.
func TestPause(t *testing.T) {
	const first = 3 * time.Minute
	pause := Seen{}.Pause(0, first)
	for _, c := range []struct {
		failed string
		want   time.Duration
	}{{"", first}, {"why", 2 * first}, {"why", 4 * first}, {"why", 8 * first}, {"why", 16 * first}, {"why", 20 * first}, {"why", 20 * first}, {"", first}, {"why", 2 * first}} {
		if pause = (Seen{Failed: c.failed}).Pause(pause, first); pause != c.want {
			t.Errorf("%v, want %v", pause, c.want)
		}
	}
}
