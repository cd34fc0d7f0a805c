//go:build weirtest

package uplink_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
)

// TestMutations takes one rule away at a time: what it is there for must then not hold.
func TestMutations(t *testing.T) {
	for _, rule := range []struct {
		name    string
		without uplink.Mutations
		holds   func(*testing.T, *shards) bool
	}{
		{"KeepOlder", uplink.Mutations{KeepOlder: true}, olderIsNotHeard},
		{"EarlyMarks", uplink.Mutations{EarlyMarks: true}, marksWait},
		{"AnyOrder", uplink.Mutations{AnyOrder: true}, olderCannotAttach},
		{"NotTold", uplink.Mutations{NotTold: true}, moveIsTold},
		{"AnyRound", uplink.Mutations{AnyRound: true}, roundIsRefused},
		{"OneRetired", uplink.Mutations{OneRetired: true}, retiredEverywhere},
		{"FirstMarks", uplink.Mutations{FirstMarks: true}, allShardsTell},
		{"NoShares", uplink.Mutations{NoShares: true}, silentLeavesRoom},
	} {
		t.Run(rule.name, func(t *testing.T) {
			for _, m := range []uplink.Mutations{{}, rule.without} {
				synctest.Test(t, func(t *testing.T) {
					if holds := rule.holds(t, newShardsWith(t, 2, m)); holds != (m == uplink.Mutations{}) {
						t.Errorf("with %+v: %v", m, holds)
					}
				})
			}
		})
	}
}

// send hands a batch for partition 1 of a topic, which is in shard 1, to a session.
func send(v *visit, round uint32) *outcome {
	o := &outcome{}
	v.Append(uplink.Append{Stream: stream, Topic: topicIn(2), Partition: 1, Round: round}, o.done)
	synctest.Wait()
	return o
}

func olderIsNotHeard(t *testing.T, w *shards) bool {
	first, second := begin(t, w.door()), begin(t, w.door())
	send(first, 0)
	first.Detach()
	second.Detach()
	return w.logs[1].count() == 0
}

func marksWait(t *testing.T, w *shards) bool {
	first := begin(t, w.door())
	send(first, 0)
	var second *visit
	d := w.door()
	go func() { second = begin(t, d) }()
	time.Sleep(time.Second)
	synctest.Wait()
	waits := second == nil
	w.logs[1].answer(0, nil)
	synctest.Wait()
	first.Detach()
	second.Detach()
	return waits
}

func olderCannotAttach(t *testing.T, w *shards) bool {
	o, err := w.owner(0)
	if err != nil {
		t.Fatal(err)
	}
	attach := func(n uplink.Number) error {
		_, _, err := o.Attach(t.Context(), "gw", n, nil, func(error) {})
		return err
	}
	if err := attach(uplink.Number{Epoch: 2, Count: 1}); err != nil {
		t.Fatal(err)
	}
	return attach(uplink.Number{Epoch: 1, Count: 9}) != nil
}

func moveIsTold(t *testing.T, w *shards) bool {
	v := begin(t, w.door())
	defer v.Detach()
	w.lose(1)
	o := send(v, 0)
	w.lead(1)
	time.Sleep(2 * time.Second)
	return o.is(uplink.ErrMoved)
}

func roundIsRefused(t *testing.T, w *shards) bool {
	v := begin(t, w.door())
	defer v.Detach()
	send(v, 3)
	w.lose(1)
	w.lead(1)
	time.Sleep(2 * time.Second)
	send(v, 3)
	return w.logs[1].count() == 1
}

func retiredEverywhere(t *testing.T, w *shards) bool {
	b := weir.BufferID{1}
	w.logs[0].known.Buffers = append(w.logs[0].known.Buffers, state(b, weir.BufferRetired, 0))
	w.logs[1].known.Buffers = append(w.logs[1].known.Buffers, state(b, weir.BufferKnown, 0))
	v := begin(t, w.door())
	defer v.Detach()
	return w.logs[1].hasRetired(b)
}

func allShardsTell(t *testing.T, w *shards) bool {
	home := uint32(weir.SliceOfGateway("gw")) % 2
	w.lose(int(1 - home))
	ctx, cancel := context.WithCancel(t.Context())
	at, _, err := w.door().Attach(ctx, "gw", nil, func(error) {})
	cancel()
	if at != nil {
		at.Detach()
	}
	return err != nil
}
