package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/weir"
)

// How far groups are behind needs the ends of partitions that other nodes lead. They are
// asked for once, not again and again as for what a client needs to go on: a view of the
// cluster does not wait for a node that is silent.

// endsTime is how long RangesNow waits for other nodes.
const endsTime = time.Second

// Coordination is Broker.Coordination, with the lag in partitions that other nodes lead.
func (r *Records) Coordination() (Coordination, error) {
	if !r.b.Several() {
		return r.b.Coordination()
	}
	shards, err := r.b.owned()
	if err != nil {
		return Coordination{}, err
	}
	places, err := r.b.readElsewhere(shards)
	if err != nil {
		return Coordination{}, err
	}
	ends := make(map[Place]int64, len(places))
	for i, x := range r.RangesNow(r.ctx, places) {
		if x.Err == nil || errors.Is(x.Err, ErrUnknownTopic) { // the topic was just deleted
			ends[places[i]] = x.End
		}
	}
	return r.b.coordination(ends)
}

// RangesNow is Ranges for a view of the cluster: each node that leads some of the partitions
// is asked once, and has endsTime to answer. The Err of what is not known then is
// ErrNoLeader.
func (r *Records) RangesNow(ctx context.Context, places []Place) []Range {
	all := make([]Range, len(places))
	nodes, byNode := make(map[string]Node), make(map[string][]int)
	for i, at := range places {
		_, err := r.b.at(weir.SliceOf(at.Topic, at.Partition))
		owner, elsewhere := r.elsewhere(err)
		switch {
		case elsewhere:
			nodes[owner.Name], byNode[owner.Name] = owner, append(byNode[owner.Name], i)
			continue
		case err != nil && r.b.Several():
			err = noLeader(err)
		}
		if all[i].Err = err; err == nil {
			all[i] = r.b.rangeOf(at)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, endsTime)
	defer cancel()
	var wg sync.WaitGroup
	for name, indexes := range byNode {
		wg.Go(func() {
			for some := range slices.Chunk(indexes, maxPlaces) {
				r.rangesOf(ctx, nodes[name], places, all, some)
			}
		})
	}
	wg.Wait()
	return all
}

// rangesOf sets the ranges of partitions as another node says them.
func (r *Records) rangesOf(ctx context.Context, node Node, places []Place, all []Range, some []int) {
	asked := make([]Place, len(some))
	for i, of := range some {
		asked[i] = places[of]
	}
	var ranges []Range
	d, err := r.ask(ctx, node, askRanges, appendPlaces(nil, asked))
	if err == nil {
		ranges, err = d.ranges(len(asked))
	}
	for i, of := range some {
		switch {
		case err != nil:
			all[of] = Range{Err: fmt.Errorf("%w: node %q: %v", ErrNoLeader, node.Name, err)}
		case errors.Is(ranges[i].Err, ErrNotOwner), errors.Is(ranges[i].Err, ErrUnavailable):
			all[of] = Range{Err: noLeader(ranges[i].Err)}
		default:
			all[of] = ranges[i]
		}
	}
}
