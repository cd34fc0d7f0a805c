package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/uplink"
)

// visit is a session of gateway gw-1 at a node.
type visit struct {
	t     *testing.T
	at    uplink.Attachment
	known uplink.Offered
	topic weir.TopicID
	round uint32 // of all partitions
	mu    sync.Mutex
	ended error
}

// visitAt begins a session.
func visitAt(t *testing.T, n running) *visit {
	t.Helper()
	v := &visit{t: t}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	var err error
	v.at, v.known, err = n.ingest.door.Attach(ctx, "gw-1", []weir.Buffer{{ID: visitBuffer, Current: true}}, func(err error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.ended = errors.Join(v.ended, err)
	})
	if err != nil {
		t.Fatal(err)
	}
	if v.topic, _, err = n.ingest.Resolve(t.Context(), "gw-1", "sensors"); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *visit) cause() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ended
}

var visitBuffer = weir.BufferID{3: 7}

func (v *visit) stream() weir.Stream {
	return weir.Stream{Gateway: "gw-1", Buffer: visitBuffer, Lane: weir.Live}
}

// begin appends one record to a partition. What became of it is sent to the channel.
func (v *visit) begin(partition int32, round uint32, prev, seq uint64) <-chan error {
	done := make(chan error, 1)
	v.at.Append(uplink.Append{Stream: v.stream(), Topic: v.topic, Partition: partition, Round: round, Row: weir.Row{Partitions: 4, From: 1}, Prev: prev, First: seq, Last: seq, Batch: batchOf(v.t, 1)},
		func(err error) { done <- err })
	return done
}

// send is begin, and waits.
func (v *visit) send(partition int32, round uint32, prev, seq uint64) error {
	select {
	case err := <-v.begin(partition, round, prev, seq):
		return err
	case <-time.After(20 * time.Second):
		return errors.New("no answer")
	}
}

// outcome is send, again while the record is refused for now only.
func (v *visit) outcome(partition int32, prev, seq uint64) (err error) {
	v.t.Helper()
	eventually(v.t, "the record is durable or refused", func() bool {
		v.round++
		err = v.send(partition, v.round, prev, seq)
		return !errors.Is(err, uplink.ErrBusy) && !errors.Is(err, uplink.ErrMoved)
	})
	return err
}

// TestGatewayAtAnotherNode: a gateway may come to any node. It joins and renews there, its
// records go to the owners of their shards, whichever these are, and all nodes know of it.
func TestGatewayAtAnotherNode(t *testing.T) {
	bucket := bucketOf(t, 3)
	partitions := func(o *Options) { o.Partitions, o.AutoCreate = 4, true }
	first := openNode(t, bucket, "first", t.TempDir(), partitions)
	first.run(t)
	first.says(t, "ready")
	second := openNode(t, bucket, "second", t.TempDir(), partitions)
	second.run(t)
	second.says(t, "ready")
	identity := first.joinAt(t, second, "gw-1")

	v := visitAt(t, second)
	if len(v.known.Buffers) != 1 || v.known.Buffers[0].State != weir.BufferNew {
		t.Errorf("told %+v", v.known)
	}
	for p := range int32(2) { // they are in different shards
		for range 2 { // the second time it is there
			if err := v.outcome(p, 0, 5); err != nil {
				t.Error(err)
			}
		}
		if err := v.outcome(p, 7, 9); !errors.Is(err, uplink.ErrHole) {
			t.Errorf("a record behind a hole: %v", err)
		}
		if mark, err := v.at.Mark(t.Context(), v.stream(), v.topic, p); err != nil || mark != 5 {
			t.Errorf("mark %d, %v", mark, err)
		}
	}

	other := visitAt(t, first)
	eventually(t, "the older session ends", func() bool { return errors.Is(v.cause(), uplink.ErrSuperseded) })
	v.at.Detach()
	if len(other.known.Marks) != 2 || other.known.Marks[0].Last != 5 || other.known.Marks[1].Last != 5 || other.known.Buffers[0].State != weir.BufferKnown || other.known.Buffers[0].Reached[weir.Live] != 5 {
		t.Errorf("told %+v", other.known)
	}
	if err := other.at.Retire(t.Context(), visitBuffer); err != nil {
		t.Error(err)
	}
	last := visitAt(t, second)
	if last.known.Buffers[0].State != weir.BufferRetired || len(last.known.Marks) != 0 {
		t.Errorf("told %+v of a buffer that is retired", last.known)
	}
	last.at.Detach()

	_, disconnect := connect(t, second, identity)
	defer disconnect()
	eventually(t, "the owner of the catalogue sees a gateway that is connected to the other node", func() bool {
		for _, n := range []running{first, second} {
			if all, err := n.gateways(); err == nil && len(all) == 1 && all[0].Session != nil && all[0].Session.Contact.Records == 12 && *all[0].Session.DeadLetters == 3 {
				return true
			}
		}
		return false
	})
}

// joinAt lets a gateway join at another node, with a token of this one, and renew its
// certificate there.
func (r running) joinAt(t *testing.T, at running, id string) *join.Identity {
	t.Helper()
	text, err := r.fleet().NewToken(t.Context(), 1, time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := join.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	identity, err := sender.Join(t.Context(), at.self.Address(cluster.Sync), token, id, key, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := join.NewCSR(key, id)
	if err != nil {
		t.Fatal(err)
	}
	if der, err := at.renew(t.Context(), id, csr); err != nil || len(der) == 0 {
		t.Errorf("renewed: %d bytes, %v", len(der), err)
	}
	if _, err := at.renew(t.Context(), "stranger", csr); err == nil {
		t.Error("a stranger gets a certificate")
	}
	return identity
}

// TestGatewayOfOwnerInDoubt: while the owner of a shard cannot reach the bucket, sessions go
// on. What they send there is refused, and how far it got is told later.
func TestGatewayOfOwnerInDoubt(t *testing.T) {
	bucket := bucketOf(t, 3)
	n := openNode(t, bucket, "first", t.TempDir(), func(o *Options) { o.Partitions, o.AutoCreate = 4, true })
	n.run(t)
	n.says(t, "ready")
	n.joinAt(t, n, "gw-1")
	v := visitAt(t, n)
	defer v.at.Detach()
	if err := v.outcome(0, 0, 5); err != nil {
		t.Fatal(err)
	}
	id := n.broker.RouteOf(weir.SliceOf(v.topic, 0))
	n.broker.Doubt(id, true)
	marks := make(chan error, 1)
	go func() {
		mark, err := v.at.Mark(t.Context(), v.stream(), v.topic, 0)
		if err == nil && mark != 5 {
			err = fmt.Errorf("mark %d", mark)
		}
		marks <- err
	}()
	v.round++
	batches := v.begin(0, v.round, 5, 6)
	if err := v.outcome(1, 0, 5); err != nil {
		t.Errorf("a record for another shard: %v", err)
	}
	if err := <-batches; !errors.Is(err, uplink.ErrMoved) {
		t.Errorf("a batch that came in doubt: %v", err)
	}
	if len(marks) > 0 {
		t.Error("the owner in doubt tells a mark")
	}
	n.broker.Doubt(id, false)
	if err := <-marks; err != nil {
		t.Errorf("a mark that was asked in doubt: %v", err)
	}
	if err := v.outcome(0, 5, 6); err != nil || v.cause() != nil {
		t.Errorf("the record again: %v; the session: %v", err, v.cause())
	}
}
