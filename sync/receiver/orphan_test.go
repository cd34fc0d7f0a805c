package receiver_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/uplink/uplinktest"
	"github.com/weirmq/weir/sync/wire"
)

// orphans is a log some of whose shards have no owner yet: it tells no mark of even
// partitions, retires nothing and finds no topic until owned is closed. It refuses all
// batches with ErrMoved but those of partition 5.
type orphans struct {
	stubLog
	owned chan struct{}
}

func (l *orphans) wait(ctx context.Context) error {
	select {
	case <-l.owned:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *orphans) Append(a uplink.Append, done func(error)) {
	l.stubLog.Append(a, done)
	if a.Partition == 5 {
		done(nil)
		return
	}
	done(uplink.ErrMoved)
}

func (l *orphans) Mark(ctx context.Context, _ weir.Stream, _ weir.TopicID, partition int32) (uint64, error) {
	if partition%2 == 0 {
		return 30, l.wait(ctx)
	}
	return 40, nil
}

func (l *orphans) Retire(ctx context.Context, gateway string, id weir.BufferID) error {
	if err := l.wait(ctx); err != nil {
		return err
	}
	return l.stubLog.Retire(ctx, gateway, id)
}

func (l *orphans) Resolve(ctx context.Context, gateway, topic string) (weir.TopicID, int32, error) {
	if err := l.wait(ctx); err != nil {
		return weir.TopicID{}, 0, err
	}
	return l.stubLog.Resolve(ctx, gateway, topic)
}

func newOrphans(t *testing.T, m receiver.Mutations) (*orphans, *peer) {
	l := &orphans{owned: make(chan struct{})}
	p := newPeer(t, receiver.Options{Mutations: m, Resolve: l.Resolve,
		Attach: uplinktest.Alone(uplink.Calls{Offer: l.Offer, Append: l.Append, Mark: l.Mark, Retire: l.Retire}).Attach})
	p.hello()
	return l, p
}

// frames reads frames from a stream until it ends.
func frames(st wire.Channel) <-chan wire.Frame {
	got := make(chan wire.Frame, 10_000)
	go func() {
		for {
			f, err := wire.Read(st, wire.MaxControl)
			if err != nil {
				return
			}
			got <- f
		}
	}()
	return got
}

// next returns the frame that has arrived, nil if there is none.
func next(got <-chan wire.Frame) wire.Frame {
	synctest.Wait()
	select {
	case f := <-got:
		return f
	default:
		return nil
	}
}

// answersPings reports whether Pings are answered while a Retire and a Resolve wait, which
// are answered later, each kind in its order.
func answersPings(t *testing.T, m receiver.Mutations) bool {
	l, p := newOrphans(t, m)
	defer p.recv.Close()
	got := frames(p.control)
	for _, f := range []wire.Frame{&wire.Retire{Buffer: weir.BufferID{1}}, &wire.Resolve{Name: "a"}, &wire.Retire{Buffer: weir.BufferID{2}}, &wire.Ping{}} {
		p.send(p.control, f)
	}
	f := next(got)
	if f == nil {
		return false
	}
	if f.Type() != wire.TypePong || next(got) != nil {
		t.Errorf("got %+v", f)
	}
	close(l.owned)
	var retired []weir.BufferID
	topics := 0
	for range 3 {
		switch f := next(got).(type) {
		case *wire.Retired:
			retired = append(retired, f.Buffer)
		case *wire.Topic:
			topics++
		default:
			t.Errorf("got %+v", f)
		}
	}
	if topics != 1 || len(retired) != 2 || retired[0] != (weir.BufferID{1}) || retired[1] != (weir.BufferID{2}) {
		t.Errorf("%d topics, retired %v", topics, retired)
	}
	return true
}

// refusesOthers reports whether a partition is told of its refusals, and another of its
// acks, while a third waits for its mark.
func refusesOthers(t *testing.T, m receiver.Mutations) bool {
	l, p := newOrphans(t, m)
	defer p.recv.Close()
	lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
	got := frames(lane)
	send := func(partition int32, round uint32) {
		a := live(t, 0, 1, 9)
		a.Row.Partitions, a.Partition, a.Round = 8, partition, round
		p.send(lane, a)
		synctest.Wait()
	}
	send(2, 1)
	send(2, 2)
	send(5, 0)
	if ack, ok := next(got).(*wire.Ack); !ok || ack.Partition != 5 {
		t.Errorf("got %+v instead of an ack", ack)
	}
	send(3, 7)
	send(4, 1)
	f := next(got)
	if f == nil {
		return false
	}
	if r, ok := f.(*wire.Refused); !ok || r.Partition != 3 || r.Mark != 40 || next(got) != nil {
		t.Errorf("got %+v", f)
	}
	close(l.owned)
	rounds := map[int32][]uint32{}
	for range 3 {
		r, ok := next(got).(*wire.Refused)
		if !ok || r.Mark != 30 {
			t.Fatalf("got %+v", r)
		}
		rounds[r.Partition] = append(rounds[r.Partition], r.Round)
	}
	if len(rounds[4]) != 1 || len(rounds[2]) != 2 || rounds[2][0] != 1 || rounds[2][1] != 2 {
		t.Errorf("refused rounds, by partition: %v", rounds)
	}
	return true
}

// leavesRoom reports whether frames that were refused and wait for a mark leave room for
// those of other partitions.
func leavesRoom(t *testing.T, m receiver.Mutations) bool {
	_, p := newOrphans(t, m)
	defer p.recv.Close()
	lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
	got := frames(lane)
	large := live(t, 0, 1, 9)
	large.Row.Partitions, large.Partition, large.Batch = 8, 2, batch(t, string(make([]byte, 1<<20)))
	go func() {
		for range 20 {
			if wire.Write(lane, large) != nil {
				return
			}
		}
		a := live(t, 0, 1, 9)
		a.Row.Partitions, a.Partition = 8, 5
		_ = wire.Write(lane, a) // fails if the lane stands still, until the session ends
	}()
	ack, ok := next(got).(*wire.Ack)
	return ok && ack.Partition == 5
}

// TestShardsWithoutOwner: they hold up nothing else of a session.
func TestShardsWithoutOwner(t *testing.T) {
	for name, holds := range map[string]func(*testing.T, receiver.Mutations) bool{
		"pings": answersPings, "refusals": refusesOthers, "room": leavesRoom,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				if !holds(t, receiver.Mutations{}) {
					t.Error("they wait for a shard without an owner")
				}
			})
		})
	}
}

// TestManyErrands: requests beyond those that may wait are answered, too.
func TestManyErrands(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l, p := newOrphans(t, receiver.Mutations{})
		defer p.recv.Close()
		got := frames(p.control)
		const many = 2500
		go func() {
			for i := range many {
				p.send(p.control, &wire.Retire{Buffer: weir.BufferID{byte(i >> 8), byte(i)}})
			}
			p.send(p.control, &wire.Ping{})
		}()
		if f := next(got); f != nil {
			t.Errorf("got %+v while a thousand wait", f)
		}
		close(l.owned)
		synctest.Wait()
		retired, pongs := 0, 0
		for len(got) > 0 {
			if (<-got).Type() == wire.TypeRetired {
				retired++
			} else {
				pongs++
			}
		}
		if retired != many || pongs != 1 {
			t.Errorf("%d retired, %d pongs", retired, pongs)
		}
	})
}
