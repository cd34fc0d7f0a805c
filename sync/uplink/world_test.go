package uplink_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// shardLog is the log of a shard: it answers a batch when the test says so.
type shardLog struct {
	mu      sync.Mutex
	known   uplink.Offered
	taken   []uplink.Append
	done    []func(error)
	retired []weir.BufferID
	mark    uint64
	current []weir.BufferID // that were told to be open
}

func (l *shardLog) calls() uplink.Calls {
	return uplink.Calls{
		Offer: func(_ context.Context, _ string, buffers []weir.Buffer) (uplink.Offered, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, b := range buffers {
				if b.Current {
					l.current = append(l.current, b.ID)
				}
			}
			return l.known, nil
		},
		Append: func(a uplink.Append, done func(error)) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.taken, l.done = append(l.taken, a), append(l.done, done)
		},
		Mark: func(context.Context, weir.Stream, weir.TopicID, int32) (uint64, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.mark, nil
		},
		Retire: func(_ context.Context, _ string, b weir.BufferID) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.retired = append(l.retired, b)
			return nil
		},
	}
}

func (l *shardLog) answer(n int, err error) {
	l.mu.Lock()
	done := l.done[n]
	l.mu.Unlock()
	done(err)
}

func (l *shardLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.taken)
}

func (l *shardLog) hasRetired(b weir.BufferID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.retired, b)
}

// shards are the shards of a cluster with their owners. A slice lies in the shard that is
// its number modulo theirs.
type shards struct {
	t     *testing.T
	logs  []*shardLog
	rules uplink.Mutations

	mu     sync.Mutex
	routed int // how many have slices
	epoch  uint64
	owners []*uplink.Owner // nil: nobody owns the shard
}

func newShards(t *testing.T, n int) *shards { return newShardsWith(t, n, uplink.Mutations{}) }

// newShardsWith is newShards without some rules.
func newShardsWith(t *testing.T, n int, m uplink.Mutations) *shards {
	w := &shards{t: t, rules: m, routed: n, owners: make([]*uplink.Owner, n)}
	for i := range n {
		w.logs = append(w.logs, &shardLog{})
		w.lead(i)
	}
	return w
}

// lead gives a shard an owner, a new one if it has one.
func (w *shards) lead(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.epoch++
	w.owners[i] = uplink.NewOwner(w.epoch, w.logs[i].calls(), w.rules)
}

// lose takes a shard from its owner, which hears of it at once.
func (w *shards) lose(i int) {
	w.mu.Lock()
	o := w.owners[i]
	w.owners[i] = nil
	w.mu.Unlock()
	o.End()
}

func (w *shards) owner(i uint32) (*uplink.Owner, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.owners[i]; o != nil {
		return o, nil
	}
	return nil, &uplink.NotOwnerError{Addr: "elsewhere"}
}

func (w *shards) number() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.routed
}

// split moves slices, so that so many shards have some.
func (w *shards) split(into int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.routed = into
}

func (w *shards) door() *uplink.Door {
	shardOf := func(s weir.Slice) uint32 { return uint32(int(s) % w.number()) }
	return uplink.NewDoor(uplink.Options{
		Mutations: w.rules,
		Shards: func() []uint32 {
			all := make([]uint32, w.number())
			for i := range all {
				all[i] = uint32(i)
			}
			return all
		},
		ShardOf: shardOf,
		Number: func(_ context.Context, gateway string) (uplink.Number, error) {
			o, err := w.owner(shardOf(weir.SliceOfGateway(gateway)))
			if err != nil {
				return uplink.Number{}, err
			}
			return o.Number(), nil
		},
		Attach: func(ctx context.Context, id uint32, gateway string, no uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
			o, err := w.owner(id)
			if err != nil {
				return nil, uplink.Offered{}, err
			}
			return o.Attach(ctx, gateway, no, buffers, end)
		},
	})
}

// topicIn returns a topic whose partition p lies in shard p modulo that many.
func topicIn(n int) weir.TopicID {
	for i := range byte(255) {
		if id := (weir.TopicID{i}); int(weir.SliceOf(id, 0))%n == 0 && weir.SliceOf(id, 0) < 1000 {
			return id
		}
	}
	panic("no such topic")
}

// visit is a session of gateway gw at a door.
type visit struct {
	uplink.Attachment
	known uplink.Offered
	mu    sync.Mutex
	ended error
}

func (v *visit) end(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended == nil {
		v.ended = err
	}
}

func (v *visit) cause() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ended
}

func begin(t *testing.T, d *uplink.Door, buffers ...weir.Buffer) *visit {
	t.Helper()
	v := &visit{}
	var err error
	if v.Attachment, v.known, err = d.Attach(t.Context(), "gw", buffers, v.end); err != nil {
		t.Fatal(err)
	}
	return v
}

// outcome is what became of a batch.
type outcome struct {
	mu   sync.Mutex
	n    int
	err  error
	over bool
}

func (o *outcome) done(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n++
	o.err, o.over = err, true
}

// is reports whether the batch was answered once, with that error.
func (o *outcome) is(want error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n == 1 && errors.Is(o.err, want)
}

func (o *outcome) answered() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.over
}

func state(id weir.BufferID, s weir.BufferState, reached uint64) wire.OfferedBuffer {
	return wire.OfferedBuffer{ID: id, State: s, Reached: [weir.Lanes]uint64{reached}}
}
