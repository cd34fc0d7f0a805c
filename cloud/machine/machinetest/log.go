// Package machinetest has a log in memory for the tests of state machines and of what
// is above them.
package machinetest

import (
	"context"
	"testing"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// Log is a machine.Log that applies what is proposed at once. It has no topics.
type Log struct {
	FormatLevel int
	Machines    []state.Machine     // each entry is applied to all of them
	Entries     []commitlog.Command // what was proposed
	Before      func()              // is called before each entry; nil: nothing
}

// New returns a log of the newest format level that these machines follow.
func New(machines ...state.Machine) *Log {
	return &Log{FormatLevel: identity.Level, Machines: machines}
}

// Propose implements machine.Log.
func (l *Log) Propose(_ context.Context, kind uint16, body []byte) error {
	if l.Before != nil {
		l.Before()
	}
	l.Entries = append(l.Entries, commitlog.Command{Kind: kind, Body: body})
	for _, m := range l.Machines {
		if err := m.Apply(kind, body); err != nil {
			return err
		}
	}
	return nil
}

// Level implements machine.Log.
func (l *Log) Level() int { return l.FormatLevel }

// Topics implements machine.Log.
func (l *Log) Topics() []state.Topic { return nil }

// TopicByID implements machine.Log.
func (l *Log) TopicByID(weir.TopicID) (state.Topic, bool) { return state.Topic{}, false }

// Alike fails the test at its end if the machines of the log do not know the same.
func (l *Log) Alike(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		for _, m := range l.Machines[1:] {
			if a, b := string(l.Machines[0].Snapshot()), string(m.Snapshot()); a != b {
				t.Errorf("a machine that follows the log knows something else:\n%s\n%s", a, b)
			}
		}
	})
}
