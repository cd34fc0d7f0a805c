package broker

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/storage/weir"
)

// sharesAll makes a new share group share all partitions of the topic.
func (p *pair) sharesAll(name string) {
	p.t.Helper()
	for i := range p.topic.Partitions {
		if err := p.records.BeginShare(p.t.Context(), share.Place{Group: name, Topic: p.topic.ID, Partition: i}, 0); err != nil {
			p.t.Fatal(err)
		}
	}
	p.shares(name, int(p.topic.Partitions))
}

// shares checks of how many partitions a share group knows something.
func (p *pair) shares(name string, want int) {
	p.t.Helper()
	all, err := p.records.ShareOffsets(p.t.Context(), name)
	if err != nil || len(all) != want {
		p.t.Errorf("the group shares %+v, %v; want %d partitions", all, err, want)
	}
}

// TestDeleteShareGroupOverNodes: a share group is deleted when all nodes have forgotten it.
// If one is silent the call fails, and a further one deletes the rest.
func TestDeleteShareGroupOverNodes(t *testing.T) {
	p := newPair(t, Mutations{})
	name := groupIn(p.a, 1)
	p.sharesAll(name)
	ctx, cancel := context.WithCancel(t.Context())
	p.cuts(func(string) (before, after bool) { cancel(); return true, false })
	if err := p.records.DeleteGroup(ctx, name); !errors.Is(err, ErrNoLeader) || errors.Is(err, ErrNotOwner) {
		t.Errorf("the other node is silent: %v", err)
	}
	if _, err := p.records.DescribeShare(ctx, name); !errors.Is(err, ErrNoLeader) {
		t.Errorf("the other node is silent: %v", err)
	}
	p.cuts(func(string) (before, after bool) { return false, false })
	p.shares(name, len(p.far))
	if d, err := p.records.DescribeShare(t.Context(), name); err != nil || d.State != group.Empty {
		t.Errorf("%+v, %v", d, err)
	}
	lost := false
	p.cuts(func(what string) (before, after bool) {
		after, lost = !lost && what == askShareDelete, lost || what == askShareDelete
		return false, after
	})
	if err := p.records.DeleteGroup(t.Context(), name); err != nil || !lost {
		t.Errorf("its answer is lost: %v", err)
	}
	p.shares(name, 0)
	if err := p.records.DeleteGroup(t.Context(), name); !errors.Is(err, group.ErrUnknownGroup) {
		t.Errorf("deleted again: %v", err)
	}
}

// TestShareGroupsAndStopwatch: what the shards do at once for a request does not use its
// stopwatch, which is for one goroutine, and stands meanwhile.
func TestShareGroupsAndStopwatch(t *testing.T) {
	p := newPair(t, Mutations{})
	now := time.Unix(0, 0)
	sw := stopwatch.New(func() time.Time { now = now.Add(time.Hour); return now })
	sw.Lap()
	idle := sw.Lap()
	if err := p.records.eachShard(stopwatch.With(t.Context(), sw), func(ctx context.Context, _ uint32) error {
		stopwatch.Waiting(ctx)()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if worked := sw.Lap(); worked != 2*idle { // until it stood, and since then
		t.Errorf("it ran for %v", worked)
	}
}

// TestListShareGroupOverNodes: a share group that has only offsets is listed by the node that
// coordinates it, wherever the offsets are, and by no other.
func TestListShareGroupOverNodes(t *testing.T) {
	p := newPair(t, Mutations{})
	here, there := groupIn(p.a, 1), groupIn(p.a, 2)
	for _, name := range []string{here, there} {
		if err := p.records.BeginShare(t.Context(), share.Place{Group: name, Topic: p.topic.ID, Partition: p.far[0]}, 0); err != nil {
			t.Fatal(err)
		}
	}
	listed := func(r *Records, want ...string) {
		t.Helper()
		all, err := r.GroupListings(t.Context())
		var names []string
		for _, g := range all {
			names = append(names, g.Group)
		}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("groups %v, %v; want %v", names, err, want)
		}
	}
	listed(p.records, here)
	listed(p.there, there)
	p.cuts(func(string) (before, after bool) { return true, false })
	listed(p.records)
}

// TestDeleteSharesThatMove: what comes to a shard after its turn is removed, too.
func TestDeleteSharesThatMove(t *testing.T) {
	p := newPair(t, Mutations{})
	name := groupIn(p.a, 1)
	at := share.Place{Group: name, Topic: p.topic.ID, Partition: p.far[0]}
	var set weir.SliceSet
	set.Add(weir.SliceOf(at.Topic, at.Partition))
	p.sharesAll(name)
	moved, first := false, p.a.table.Load().shards[1].own.Shares
	p.cuts(func(what string) (before, after bool) {
		if what == askShareDelete && !moved { // it leaves before its shard has answered, and shard 1 has
			for moved = true; ; runtime.Gosched() {
				if all, err := first.Offsets(name); err != nil || len(all) == 0 {
					break
				}
			}
			was, count := p.a.Map()
			was[weir.SliceOf(at.Topic, at.Partition)] = 1
			if err := first.Import(p.second.Shares.Export(set)); err != nil {
				t.Error(err)
			}
			p.second.Shares.Remove(set)
			p.a.SetMap(was, count)
		}
		return false, false
	})
	if found, err := p.records.DeleteShares(t.Context(), name, nil); err != nil || !found {
		t.Errorf("%v, %v", found, err)
	}
	p.shares(name, 0)
}

// TestBeginShareOverNodes: other nodes refuse what this one would.
func TestBeginShareOverNodes(t *testing.T) {
	p := newPair(t, Mutations{})
	for i := range int32(50) {
		at := share.Place{Group: "s", Topic: p.topic.ID, Partition: p.topic.Partitions + i}
		if err := p.records.BeginShare(t.Context(), at, 0); !errors.Is(err, ErrUnknownTopic) {
			t.Errorf("partition %d: %v", at.Partition, err)
		}
	}
	p.shares("s", 0)
}
