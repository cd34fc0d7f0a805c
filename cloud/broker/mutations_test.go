//go:build weirtest

package broker

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestMutations: without one of the rules for records that other nodes lead, a test fails.
func TestMutations(t *testing.T) {
	for name, x := range map[string]struct {
		m    Mutations
		test func(*pair) error
	}{
		"NoProducer": {Mutations{NoProducer: true}, remoteOnce},
		"NoRestart":  {Mutations{NoRestart: true}, remoteRefused},
		"NoStuck":    {Mutations{NoStuck: true}, remoteStuck},
		"NoWhole":    {Mutations{NoWhole: true}, followed},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, x.m)
			p.patience = 100 * time.Millisecond // for what does not come
			if err := x.test(p); err == nil {
				t.Error("nothing fails")
			}
		})
	}
}

// TestNeverSure: a node that trusts its memory after it was stopped is noticed.
func TestNeverSure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if awaitSure(Mutations{NeverSure: true}) == nil {
			t.Error("nothing fails")
		}
	})
}
