//go:build weirtest

package sender_test

import (
	"testing"

	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/sender"
)

// TestModelNotices removes one rule at a time: the model must turn red.
func TestModelNotices(t *testing.T) {
	for name, m := range map[string]struct {
		s sender.Mutations
		r receiver.Mutations
	}{
		"OwnBelief":    {s: sender.Mutations{OwnBelief: true}},
		"TodaysCount":  {s: sender.Mutations{TodaysCount: true}},
		"NoBarrier":    {s: sender.Mutations{NoBarrier: true}},
		"TrimAcked":    {s: sender.Mutations{TrimAcked: true}},
		"NextBuffer":   {s: sender.Mutations{NextBuffer: true}},
		"KeepOnRefuse": {s: sender.Mutations{KeepOnRefuse: true}},
		"EarlyGap":     {s: sender.Mutations{EarlyGap: true}},
		"NoGap":        {s: sender.Mutations{NoGap: true}},
		"NoHold":       {s: sender.Mutations{NoHold: true}},
		"AckEarly":     {r: receiver.Mutations{AckEarly: true}},
		"MarkAtOnce":   {r: receiver.Mutations{MarkAtOnce: true}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2000) {
				if err := runModel(t, seed+1, m.s, m.r); err != nil {
					t.Logf("seed %d: %v", seed+1, err)
					return
				}
			}
			t.Fatal("no schedule noticed that the rule is missing")
		})
	}
}
