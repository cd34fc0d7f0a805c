package broker

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// TestRemoteStuck: a batch that is to be sent again, in front of others that are durable, is
// in its partition once, and so are they, in order.
func TestRemoteStuck(t *testing.T) {
	if err := remoteStuck(newPair(t, Mutations{})); err != nil {
		t.Error(err)
	}
}

func remoteStuck(p *pair) error {
	at := p.far[0]
	if a := <-p.append(at, "0"); a.err != nil {
		return a.err
	}
	p.cuts(func(string) (bool, bool) { return true, false })
	answers := make([]<-chan appended, maxFlying+2)
	for i := range answers {
		answers[i] = p.append(at, strconv.Itoa(i+1))
	}
	unsure := 0
	p.mu.Lock()
	p.change = func(what string, question, answer []byte) []byte {
		if what != askAppend || unsure == 2 {
			return answer
		}
		q, err := newDecoder(question)
		if err != nil {
			return answer
		}
		batches, err := q.batches()
		if err != nil || len(batches) < 2 {
			return answer
		}
		a, err := newDecoder(answer)
		if err != nil {
			return answer
		}
		all, err := a.appended(len(batches))
		if err != nil {
			return answer
		}
		unsure++
		all[0] = appended{-1, ErrUnavailable} // as of a log that is in doubt
		return appendAppended(nil, all)
	}
	p.mu.Unlock()
	p.cuts(func(string) (bool, bool) { return false, false })
	for i, answer := range answers {
		if a := <-answer; a.err != nil {
			return fmt.Errorf("batch %d: %w", i+1, a.err)
		}
	}
	if unsure != 2 {
		return fmt.Errorf("%d answers were changed", unsure)
	}
	if got := p.values(at); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5", "6", "7"}) {
		return fmt.Errorf("the partition has %q", got)
	}
	return nil
}

// TestRemoteAwayShard: a shard that nobody serves leaves the batches for others room, and
// what waits counts for the shard that has its slice.
func TestRemoteAwayShard(t *testing.T) {
	b := threeShards(t, "a")
	r := NewRecords(b, RecordsOptions{})
	defer r.Close()
	place := func(shard uint32) Place {
		for partition := int32(0); ; partition++ {
			if b.RouteOf(weir.SliceOf(weir.TopicID{7}, partition)) == shard {
				return Place{Topic: weir.TopicID{7}, Partition: partition}
			}
		}
	}
	at := map[uint32]Place{1: place(1), 2: place(2)}
	value := string(make([]byte, 1<<20))
	accepted := func(shard uint32) bool {
		answer := make(chan error, 1)
		r.Append(t.Context(), Append{Topic: at[shard].Topic, Partition: at[shard].Partition, Batch: recordtest.Batch(value)}, func(_ int64, err error) { answer <- err })
		select {
		case err := <-answer:
			if !errors.Is(err, ErrNoLeader) {
				t.Errorf("a batch too many: %v", err)
			}
			return false
		default:
			return true
		}
	}
	for range maxAway >> 20 {
		accepted(1)
	}
	if accepted(1) || !accepted(2) {
		t.Error("the shard that nobody serves takes all, or what is left for others is not for them")
	}
	away := func(shard uint32) int {
		r.appends.mu.Lock()
		defer r.appends.mu.Unlock()
		return r.appends.away[shard]
	}
	all := away(1) + away(2)
	routes, count := b.Map()
	for i := range routes {
		routes[i] = 2
	}
	b.SetMap(routes, count)
	until(t, "what waits counts for the other shard", func() bool { return away(1) == 0 && away(2) == all })
}
