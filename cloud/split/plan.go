// Package split plans which slices move where when a cluster gets more shards.
package split

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/weir"
)

// ErrShards means that a cluster cannot have that number of shards.
var ErrShards = errors.New("shards cannot be split so")

// Step is slices that move from a shard to a new one.
type Step struct {
	From, To uint32
	Slices   weir.SliceSet
}

// Plan returns what to do, in order, so that a cluster of so many shards gets data shards up
// to that number: shard 0, which has the catalogue, does not count. Each new shard takes its
// slices from one other. Those of shard 0 are dealt out to the new ones; when it has none,
// each new one takes half of what the largest has. Slices in keep stay where they are.
//
// Errors: ErrShards.
func Plan(m weir.Map, shards, data int, keep weir.SliceSet) ([]Step, error) {
	switch {
	case data > weir.Slices:
		return nil, fmt.Errorf("%w: %d shards, and there are %d slices", ErrShards, data, weir.Slices)
	case data < 1 || data <= shards-1:
		return nil, fmt.Errorf("%w: there are %d with data already, and shards are never put together", ErrShards, max(shards-1, 1))
	case data == 1 && shards == 1:
		return nil, fmt.Errorf("%w: one shard has all data already", ErrShards)
	}
	var steps []Step
	for to := uint32(shards); int(to) <= data; to++ {
		step, err := next(&m, to, data, keep)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// next plans a new shard, and changes the map.
func next(m *weir.Map, to uint32, data int, keep weir.SliceSet) (Step, error) {
	has := make([][]weir.Slice, to) // what can move, by shard
	for s, shard := range m {
		if !keep.Has(weir.Slice(s)) {
			has[shard] = append(has[shard], weir.Slice(s))
		}
	}
	from, parts := uint32(0), data-int(to)+1
	if len(has[0]) == 0 {
		from, parts = largest(has), 2
	}
	n := len(has[from]) / parts
	if n == 0 {
		return Step{}, fmt.Errorf("%w: shard %d would get no slice", ErrShards, to)
	}
	step := Step{From: from, To: to}
	// Every parts-th one: the partitions of a topic lie in a row.
	for i, s := range has[from] {
		if i%parts == 0 && step.Slices.Len() < n {
			step.Slices.Add(s)
			m[s] = to
		}
	}
	return step, nil
}

// largest returns the shard that has the most.
func largest(has [][]weir.Slice) uint32 {
	most := slices.MaxFunc(has, func(a, b []weir.Slice) int { return len(a) - len(b) })
	return uint32(slices.IndexFunc(has, func(s []weir.Slice) bool { return len(s) == len(most) }))
}
