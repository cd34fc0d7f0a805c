//go:build weirtest

package receiver_test

import (
	"testing"

	"github.com/weirmq/weir/sync/receiver"
)

// TestMutations takes one rule away at a time: what it is there for must then not hold. Each
// is about what waits for what, which the model test does not judge.
func TestMutations(t *testing.T) {
	for name, rule := range map[string]struct {
		without receiver.Mutations
		holds   func(*testing.T, receiver.Mutations) bool
	}{
		"requests in turn":    {receiver.Mutations{InTurn: true}, answersPings},
		"refusals in turn":    {receiver.Mutations{InTurn: true}, refusesOthers},
		"refused frames stay": {receiver.Mutations{KeepWhole: true}, leavesRoom},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				if rule.holds(t, rule.without) {
					t.Error("nothing is missing without the rule")
				}
			})
		})
	}
}
