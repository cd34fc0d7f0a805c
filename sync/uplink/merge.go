package uplink

import (
	"context"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

// all asks all shards at once and merges what they know. A buffer that is retired in one
// of them is retired in the others before all returns.
func (s *session) all(ctx context.Context, ask func(ctx context.Context, l *link) (Offered, error)) (Offered, error) {
	links := s.linked()
	known, errs := make([]Offered, len(links)), make([]error, len(links))
	var wg sync.WaitGroup
	for i, l := range links {
		if firstMarks(s.d.o.Mutations) && l.shard != s.home() {
			s.wg.Go(func() { _, _ = ask(s.ctx, l) })
			continue
		}
		wg.Go(func() { known[i], errs[i] = ask(ctx, l) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return Offered{}, err
		}
	}
	if len(links) == 1 {
		return known[0], nil
	}
	if err := s.retireElsewhere(ctx, links, known); err != nil {
		return Offered{}, err
	}
	return merge(known), nil
}

// retireElsewhere retires what is retired in one shard in the others that know it, and in
// the shard of the gateway.
func (s *session) retireElsewhere(ctx context.Context, links []*link, known []Offered) error {
	if oneRetired(s.d.o.Mutations) {
		return nil
	}
	in := make(map[weir.BufferID][]uint32) // the shards in which a buffer is to be retired
	for _, o := range known {
		for _, b := range o.Buffers {
			if b.State == weir.BufferRetired {
				in[b.ID] = nil
			}
		}
	}
	for i, o := range known {
		for _, b := range o.Buffers {
			if _, retired := in[b.ID]; retired && (b.State == weir.BufferKnown || b.State != weir.BufferRetired && links[i].shard == s.home()) {
				in[b.ID] = append(in[b.ID], links[i].shard)
			}
		}
	}
	for id, shards := range in {
		if err := s.retire(ctx, id, shards); err != nil {
			return err
		}
	}
	return nil
}

// order returns which state of a buffer counts if shards have several: the one with the
// lowest order. A shard that has put a buffer aside would refuse its records.
func order(s weir.BufferState) int {
	return slices.Index([]weir.BufferState{weir.BufferRetired, weir.BufferAside, weir.BufferKnown, weir.BufferNew}, s)
}

// merge returns what all shards together know.
func merge(known []Offered) Offered {
	var all Offered
	at := make(map[weir.BufferID]int)
	type stream struct {
		buffer weir.BufferID
		lane   weir.Lane
		topic  weir.TopicID
	}
	rows := make(map[stream]int)
	for _, o := range known {
		for _, b := range o.Buffers {
			if i, ok := at[b.ID]; ok {
				mergeBuffer(&all.Buffers[i], b)
				continue
			}
			at[b.ID] = len(all.Buffers)
			all.Buffers = append(all.Buffers, b)
		}
		for _, r := range o.Rows {
			key := stream{r.Buffer, r.Lane, r.Topic}
			if i, ok := rows[key]; !ok {
				rows[key] = len(all.Rows)
				all.Rows = append(all.Rows, r)
			} else if all.Rows[i].Before(r.Row) {
				all.Rows[i] = r
			}
		}
		all.Marks = append(all.Marks, o.Marks...)
	}
	return all
}

// mergeBuffer adds what another shard knows of a buffer.
func mergeBuffer(b *wire.OfferedBuffer, other wire.OfferedBuffer) {
	if order(other.State) < order(b.State) {
		b.State = other.State
	}
	for lane := range b.Reached {
		b.Reached[lane] = max(b.Reached[lane], other.Reached[lane])
	}
}
