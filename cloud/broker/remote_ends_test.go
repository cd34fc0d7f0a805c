package broker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/weir"
)

// groupIn returns the name of a group that a shard coordinates.
func groupIn(b *Broker, shard uint32) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("g", i); b.RouteOf(weir.SliceOfGroup(name)) == shard {
			return name
		}
	}
}

// TestLagOverNodes: the lag of a group counts partitions that another node leads, which is
// asked once for all. If it does not answer, they are left out, and that is said.
func TestLagOverNodes(t *testing.T) {
	p := newPair(t, Mutations{})
	asked, silent := 0, false
	p.cuts(func(what string) (before, after bool) {
		asked++
		if what != askRanges {
			t.Errorf("the other node is asked for %q", what)
		}
		return silent, false
	})
	name := groupIn(p.a, 1)
	groups, err := p.a.Groups(name)
	if err != nil {
		t.Fatal(err)
	}
	r := group.CommitRequest{Group: name, Generation: -1}
	var near, want uint64
	for i := range p.topic.Partitions {
		b := p.a
		if p.a.RouteOf(weir.SliceOf(p.topic.ID, i)) == 2 {
			b = p.b
		} else {
			near += uint64(i)
		}
		for range i + 1 {
			if _, err := appendTo(b, Append{Topic: p.topic.ID, Partition: i, Batch: batch(t, 1)}); err != nil {
				t.Fatal(err)
			}
		}
		want += uint64(i)
		r.Offsets = append(r.Offsets, group.Offset{Partition: group.Partition{Topic: p.topic.ID, Index: i}, Offset: 1})
	}
	if _, err := groups.Commit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	lag := func() Lag {
		c, err := p.records.Coordination()
		if err != nil || len(c.Lags) != 1 {
			t.Fatalf("%+v, %v", c.Lags, err)
		}
		return c.Lags[0]
	}
	if got := lag(); got != (Lag{name, "t", want, 0}) || asked != 1 {
		t.Errorf("%+v, want %d records; the other node was asked %d times", got, want, asked)
	}
	silent = true
	if got := lag(); got != (Lag{name, "t", near, len(p.far)}) || asked != 2 {
		t.Errorf("without the other node: %+v, want %d records and %d partitions unknown; it was asked %d times", got, near, len(p.far), asked)
	}
	p.b.Follow(2, Node{}, "") // it has lost the shard, which its answer says
	silent = false
	if got := lag(); got.Records != near || got.Unknown != len(p.far) {
		t.Errorf("asked a node that has lost the shard: %+v", got)
	}
}

// TestLagOfSilentNode: a view of the cluster waits for a silent node a second, and not until
// it is well again.
func TestLagOfSilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := threeShards(t, "a")
		b.Follow(1, Node{Name: "b"}, "")
		b.Follow(2, Node{Name: "b"}, "")
		asked := 0
		r := NewRecords(b, RecordsOptions{Ask: func(ctx context.Context, _ Node, _ string, _ []byte) ([]byte, error) {
			asked++
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		var places []Place
		for i := range int32(maxPlaces) + 5 {
			places = append(places, Place{Topic: weir.TopicID{1}, Partition: i})
		}
		began := time.Now()
		for _, x := range r.RangesNow(t.Context(), places) {
			if !errors.Is(x.Err, ErrNoLeader) {
				t.Fatalf("%v", x.Err)
			}
		}
		if took := time.Since(began); took != endsTime || asked != 2 { // each time for so many as a question may have
			t.Errorf("it was asked %d times and took %v", asked, took)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}
