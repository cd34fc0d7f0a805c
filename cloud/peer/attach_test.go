package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// ownedLog is the log of shard 7, which node a owns. It answers a batch when the test says so.
type ownedLog struct {
	mu      sync.Mutex
	taken   []uplink.Append
	done    []func(error)
	known   uplink.Offered
	offered [][]weir.Buffer
	retired []weir.BufferID
	arrived chan struct{} // a token for each batch
}

func (l *ownedLog) calls() uplink.Calls {
	return uplink.Calls{
		Offer: func(_ context.Context, _ string, buffers []weir.Buffer) (uplink.Offered, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.offered = append(l.offered, buffers)
			return l.known, nil
		},
		Append: func(a uplink.Append, done func(error)) {
			l.mu.Lock()
			l.taken, l.done = append(l.taken, a), append(l.done, done)
			l.mu.Unlock()
			l.arrived <- struct{}{}
		},
		Mark: func(_ context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if s.Gateway != "gw" || topic == (weir.TopicID{}) {
				return 0, uplink.ErrGone
			}
			return uint64(len(l.taken)) + uint64(partition)<<32, nil
		},
		Retire: func(_ context.Context, _ string, b weir.BufferID) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.retired = append(l.retired, b)
			return nil
		},
	}
}

func (l *ownedLog) wait(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-l.arrived:
		case <-time.After(10 * time.Second):
			t.Fatal("a batch does not arrive")
		}
	}
}

func (l *ownedLog) answer(i int, err error) {
	l.mu.Lock()
	done := l.done[i]
	l.mu.Unlock()
	done(err)
}

// ownedShard is node a with that shard, and a door at another node.
type ownedShard struct {
	*port
	log   *ownedLog
	owner *uplink.Owner
	door  *Client
}

func newOwnedShard(t *testing.T) *ownedShard {
	ca := newCA(t)
	o := &ownedShard{log: &ownedLog{arrived: make(chan struct{}, 1000)}}
	o.owner = uplink.NewOwner(4, o.log.calls(), uplink.Mutations{})
	here := func(shard uint32) error {
		if shard != 7 {
			return &uplink.NotOwnerError{Addr: "c:1"}
		}
		return nil
	}
	o.port = startWith(t, ca, "a", budget.GateOptions{}, func(opts *Options) {
		opts.Attachments = Attachments{
			Number: func(shard uint32, _ string) (uplink.Number, error) {
				if err := here(shard); err != nil {
					return uplink.Number{}, err
				}
				return o.owner.Number(), nil
			},
			Attach: func(ctx context.Context, shard uint32, gateway string, n uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
				if err := here(shard); err != nil {
					return nil, uplink.Offered{}, err
				}
				return o.owner.Attach(ctx, gateway, n, buffers, end)
			},
		}
	})
	o.door = client(t, identity(t, ca, "b"))
	return o
}

// attached is a session of gateway gw.
type attached struct {
	uplink.Attachment
	known uplink.Offered
	ended chan error
}

func (o *ownedShard) attach(t *testing.T, door *Client) *attached {
	t.Helper()
	n, err := door.Number(t.Context(), "a", o.addr, 7, "")
	if err != nil {
		t.Fatal(err)
	}
	a := &attached{ended: make(chan error, 10)}
	buffers := []weir.Buffer{{ID: weir.BufferID{3: 1, 11: 9}, Current: true, Lanes: [weir.Lanes]weir.Bounds{{First: 1}, {First: 5, Last: 1 << 40}}}}
	a.Attachment, a.known, err = door.Attach(t.Context(), "a", o.addr, 7, "gw", n, buffers, func(err error) { a.ended <- err })
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func await(t *testing.T, from <-chan error) error {
	t.Helper()
	select {
	case err := <-from:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("nothing happens")
		return nil
	}
}

var someAppend = uplink.Append{
	Stream: weir.Stream{Gateway: "gw", Buffer: weir.BufferID{3: 1}, Lane: weir.Bulk}, Topic: weir.TopicID{1, 15: 2}, Partition: 3,
	Row: weir.Row{Partitions: 8, From: 4}, Prev: 6, First: 7, Last: 1 << 50, Batch: record.Batch("a batch"), Gap: true, Missing: 11,
}

// TestAttach: a session of a gateway at another node, from its beginning to its end.
func TestAttach(t *testing.T) {
	o := newOwnedShard(t)
	o.log.known = uplink.Offered{
		Buffers: []wire.OfferedBuffer{{ID: weir.BufferID{1}, State: weir.BufferRetired, Reached: [weir.Lanes]uint64{1, 2, 1 << 60}}},
		Marks:   []weir.Mark{{Buffer: weir.BufferID{1}, Lane: weir.Live, Topic: weir.TopicID{5}, Partition: 6, Last: 7}},
		Rows:    []weir.MapRow{{Buffer: weir.BufferID{1}, Lane: weir.Alarm, Topic: weir.TopicID{5}, Name: "sensors", Row: weir.Row{Partitions: 9, From: 10}}},
	}
	a := o.attach(t, o.door)
	same := func(k uplink.Offered) bool {
		return slices.Equal(k.Buffers, o.log.known.Buffers) && slices.Equal(k.Marks, o.log.known.Marks) && slices.Equal(k.Rows, o.log.known.Rows)
	}
	if !same(a.known) || !slices.Equal(o.log.offered[0], []weir.Buffer{{ID: weir.BufferID{3: 1, 11: 9}, Current: true, Lanes: [weir.Lanes]weir.Bounds{{First: 1}, {First: 5, Last: 1 << 40}}}}) {
		t.Errorf("told %+v, offered %+v", a.known, o.log.offered)
	}
	done := make(chan error, 3)
	for range 3 {
		a.Append(someAppend, func(err error) { done <- err })
	}
	if mark, err := a.Mark(t.Context(), someAppend.Stream, someAppend.Topic, 2); err != nil || mark != 3+2<<32 {
		t.Errorf("mark %x, %v: it does not wait for the batches before", mark, err)
	}
	o.log.wait(t, 3)
	got := o.log.taken[2]
	if batch := got.Batch; !bytes.Equal(batch, someAppend.Batch) {
		t.Errorf("batch %q", batch)
	}
	got.Batch = nil
	want := someAppend
	want.Batch = nil
	if got.Stream != want.Stream || got.Topic != want.Topic || got.Partition != want.Partition || got.Row != want.Row || got.Prev != want.Prev || got.First != want.First || got.Last != want.Last || got.Gap != want.Gap || got.Missing != want.Missing {
		t.Errorf("%+v, want %+v", got, want)
	}
	for i, err := range []error{nil, uplink.ErrHole, errors.Join(uplink.ErrTooLarge, errors.New("9 bytes"))} {
		o.log.answer(i, err)
		if told := await(t, done); (told == nil) != (err == nil) || err != nil && told.Error() != err.Error() || i == 2 && !errors.Is(told, uplink.ErrTooLarge) {
			t.Errorf("told %v, want %v", told, err)
		}
	}
	if _, err := a.Mark(t.Context(), someAppend.Stream, weir.TopicID{}, 0); !errors.Is(err, uplink.ErrGone) {
		t.Errorf("mark of no topic: %v", err)
	}
	if k, err := a.Offer(t.Context(), nil); err != nil || !same(k) {
		t.Errorf("offer: %+v, %v", k, err)
	}
	if err := a.Retire(t.Context(), weir.BufferID{4}); err != nil || !slices.Equal(o.log.retired, []weir.BufferID{{4}}) {
		t.Errorf("retired %v, %v", o.log.retired, err)
	}
	if _, err := o.door.Number(t.Context(), "a", o.addr, 8, ""); !errors.Is(err, uplink.ErrDetached) {
		t.Errorf("number of a shard that is elsewhere: %v", err)
	}
	o.owner.End()
	if err := await(t, a.ended); !errors.Is(err, uplink.ErrDetached) {
		t.Errorf("the attachment ends with %v", err)
	}
	a.Detach()
	a.Append(someAppend, func(err error) { done <- err })
	if err := await(t, done); !errors.Is(err, uplink.ErrDetached) {
		t.Errorf("a batch after the end: %v", err)
	}
}

// TestAttachElsewhere: a newer session at another door ends the one here.
func TestAttachElsewhere(t *testing.T) {
	o := newOwnedShard(t)
	first := o.attach(t, o.door)
	second := o.attach(t, client(t, o.door.identity))
	if err := await(t, first.ended); !errors.Is(err, uplink.ErrSuperseded) {
		t.Errorf("the older session ends with %v", err)
	}
	done := make(chan error, 1)
	first.Append(someAppend, func(err error) { done <- err })
	if err := await(t, done); !errors.Is(err, uplink.ErrSuperseded) {
		t.Errorf("a batch of the older session: %v", err)
	}
	second.Detach()
	third := o.attach(t, o.door)
	select {
	case err := <-second.ended:
		t.Errorf("a session that was detached ends with %v", err)
	default:
	}
	third.Detach()
}

// TestAttachBreaks: when the connection breaks, or a node does not know the verb, all that
// was not answered is answered.
func TestAttachBreaks(t *testing.T) {
	o := newOwnedShard(t)
	a := o.attach(t, o.door)
	done := make(chan error, 1)
	a.Append(someAppend, func(err error) { done <- err })
	o.log.wait(t, 1)
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	if err := await(t, done); !errors.Is(err, uplink.ErrDetached) {
		t.Errorf("a batch: %v", err)
	}
	if err := await(t, a.ended); !errors.Is(err, uplink.ErrDetached) {
		t.Errorf("the attachment: %v", err)
	}
	o.log.answer(0, nil) // nobody hears it
	if _, err := o.door.Number(t.Context(), "a", o.addr, 7, ""); !errors.Is(err, uplink.ErrDetached) {
		t.Errorf("of a node that is down: %v", err)
	}
	ca := newCA(t)
	older := start(t, ca, "old", budget.GateOptions{})
	if _, err := client(t, identity(t, ca, "b")).Number(t.Context(), "old", older.addr, 7, "gw"); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("of a node of an earlier version: %v", err)
	}
}

// TestAttachWindow: a door does not send more than the owner answers.
func TestAttachWindow(t *testing.T) {
	o := newOwnedShard(t)
	a := o.attach(t, o.door)
	defer a.Detach()
	big := someAppend
	big.Batch = make(record.Batch, 1<<20)
	done, sent := make(chan error, 20), make(chan int, 20)
	go func() {
		for i := range 12 {
			a.Append(big, func(err error) { done <- err })
			sent <- i
		}
	}()
	const fits = attachWindow / 2 / (1 << 20) // batches of one shard
	o.log.wait(t, fits)
	select {
	case <-o.log.arrived:
		t.Error("more than the window is sent")
	case <-time.After(50 * time.Millisecond):
	}
	for i := range 12 {
		o.log.answer(i, nil)
		if err := await(t, done); err != nil {
			t.Error(err)
		}
		if i+fits < 12 {
			o.log.wait(t, 1)
		}
	}
	if len(sent) != 12 {
		t.Errorf("%d sent", len(sent))
	}
}

// TestAttachGarbage: a message that cannot be read ends the stream, and nothing else.
func TestAttachGarbage(t *testing.T) {
	o := newOwnedShard(t)
	a := o.attach(t, o.door)
	defer a.Detach()
	for name, body := range map[string][]byte{
		"too long":    {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 1, 0, 0, 0, 1},
		"too short":   {0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1},
		"no buffers":  appendMessage(nil, kindAttach, 1, 1, func(b []byte) []byte { return append(b, 7, 2, 'g', 'w', 1, 1, 1, 200) }),
		"broken off":  {0, 0, 0, 90, 1, 0, 0, 0, 1, 0, 0, 0, 1},
		"two at once": slices.Concat(appendMessage(nil, kindAttach, 1, 1, attachQuestion{shard: 7, gateway: "x", number: uplink.Number{Epoch: 1}}.encode), appendMessage(nil, kindAttach, 1, 2, attachQuestion{shard: 7, gateway: "x"}.encode)),
	} {
		l := newLink(o.addr, o.door.identity.ClientTLS("a"))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://node"+attachPath, io.NopCloser(bytes.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		res, err := l.http.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Logf("%s: %v", name, err)
		}
		res.Body.Close()
		l.close()
	}
	if _, err := a.Offer(t.Context(), nil); err != nil {
		t.Errorf("another door's stream: %v", err)
	}
}

// TestAttachFullShard: while the log of one shard takes nothing, the other shards of that
// node do not wait for it, nor does a new session.
func TestAttachFullShard(t *testing.T) {
	full, asked := make(chan struct{}), make(chan struct{}, 1000)
	var order []uint64 // what shard 7 was given
	owners := map[uint32]*uplink.Owner{
		7: uplink.NewOwner(4, uplink.Calls{
			Append: func(a uplink.Append, done func(error)) {
				asked <- struct{}{}
				<-full
				order = append(order, a.First)
				done(nil)
			},
			Mark: func(context.Context, weir.Stream, weir.TopicID, int32) (uint64, error) {
				return uint64(len(order)), nil
			},
			Offer: func(context.Context, string, []weir.Buffer) (uplink.Offered, error) { return uplink.Offered{}, nil },
		}, uplink.Mutations{}),
		8: uplink.NewOwner(4, uplink.Calls{
			Append: func(_ uplink.Append, done func(error)) { done(nil) },
			Offer:  func(context.Context, string, []weir.Buffer) (uplink.Offered, error) { return uplink.Offered{}, nil },
		}, uplink.Mutations{}),
	}
	ca := newCA(t)
	owner := startWith(t, ca, "a", budget.GateOptions{}, func(opts *Options) {
		opts.Attachments = Attachments{
			Number: func(shard uint32, _ string) (uplink.Number, error) { return owners[shard].Number(), nil },
			Attach: func(ctx context.Context, shard uint32, gateway string, n uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
				return owners[shard].Attach(ctx, gateway, n, buffers, end)
			},
		}
	})
	var release sync.Once
	defer release.Do(func() { close(full) })
	door := client(t, identity(t, ca, "b"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	attach := func(shard uint32, gateway string) uplink.Attachment {
		n, err := door.Number(ctx, "a", owner.addr, shard, "")
		if err != nil {
			t.Fatal(err)
		}
		at, _, err := door.Attach(ctx, "a", owner.addr, shard, gateway, n, nil, func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	stuck := attach(7, "gw")
	const batches = 20
	stuckDone, sent := make(chan error, batches), make(chan struct{})
	go func() {
		defer close(sent)
		for i := range batches { // more than it may have under way
			a := someAppend
			a.First, a.Batch = someAppend.First+uint64(i), make(record.Batch, 1<<20)
			stuck.Append(a, func(err error) { stuckDone <- err })
		}
	}()
	<-asked // the log of shard 7 has one, and the others wait behind it
	other := attach(8, "gw2")
	done := make(chan error, 1)
	for range 3 {
		other.Append(someAppend, func(err error) { done <- err })
		if err := await(t, done); err != nil {
			t.Error(err)
		}
	}
	attach(7, "gw3")
	release.Do(func() { close(full) })
	<-sent
	if mark, err := stuck.Mark(ctx, someAppend.Stream, someAppend.Topic, 0); err != nil || mark != batches {
		t.Errorf("mark %d, %v: it does not wait for the batches before", mark, err)
	}
	for i := range batches {
		if err := await(t, stuckDone); err != nil || order[i] != someAppend.First+uint64(i) {
			t.Errorf("batch %d: %v, %v", i, order, err)
		}
	}
}
