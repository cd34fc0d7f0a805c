package broker

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/weir"
)

// Answer answers what another node asks about records that this node leads. What it does
// not lead is ErrNotOwner in the answer, with the name of the node that does. An error means
// that the question cannot be read, or that ctx has ended.
func (r *Records) Answer(ctx context.Context, what string, question []byte) (answer []byte, err error) {
	d, err := newDecoder(question)
	if err != nil {
		return nil, err
	}
	switch what {
	case askRead:
		return r.answerRead(ctx, d)
	case askRanges:
		places, err := d.places()
		if err != nil {
			return nil, err
		}
		all := make([]Range, len(places))
		for i, at := range places {
			all[i] = r.b.rangeOf(at)
		}
		return appendRanges(nil, all, nil), nil
	case askSearch:
		q, err := d.searchQuestion()
		if err != nil {
			return nil, err
		}
		offset, timestamp, err := r.b.OffsetByTime(ctx, q.Topic, q.Partition, q.time)
		return appendFound(nil, offset, timestamp, err), nil
	case askAppend:
		return r.answerAppend(ctx, d)
	case askProducer:
		id, err := r.b.NewProducerID(ctx)
		return appendFound(nil, id, 0, err), nil
	case askShareOffsets, askShareDelete, askShareBegin, askShareNames:
		return r.answerShares(ctx, what, d)
	}
	return nil, fmt.Errorf("%w: unknown question %q", errRemote, what)
}

func (r *Records) answerRead(ctx context.Context, d *decoder) ([]byte, error) {
	q, err := d.readQuestion()
	if err != nil {
		return nil, err
	}
	fetch := r.b.Fetch
	if q.committed {
		fetch = r.b.FetchCommitted
	}
	f, err := fetch(ctx, q.Topic, q.Partition, q.offset, q.most)
	defer f.Lease.Release()
	return appendFetched(nil, &f, err), nil
}

// answerAppend appends batches, and waits for the answers. The log has each batch until it
// is answered, also if ctx ends before that.
func (r *Records) answerAppend(ctx context.Context, d *decoder) ([]byte, error) {
	all, err := d.batches()
	if err != nil {
		return nil, err
	}
	answers, err := r.appendHere(ctx, all)
	if err != nil {
		return nil, err
	}
	return appendAppended(nil, answers), nil
}

// appendHere appends batches to partitions that this node leads.
func (r *Records) appendHere(ctx context.Context, all []Append) ([]appended, error) {
	type numbered struct {
		index int
		appended
	}
	answered := make(chan numbered, len(all))
	for i, a := range all {
		r.b.Append(a, func(base int64, err error) { answered <- numbered{i, appended{base, err}} })
	}
	answers := make([]appended, len(all))
	for range all {
		select {
		case one := <-answered:
			answers[one.index] = one.appended
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return answers, nil
}

// Tell tells another node which partitions of a shard grow: first all that have records,
// then those that have changed since, until ctx ends, this node loses the shard, or tell
// fails. Errors: those of the calls of Broker, and that of tell.
func (r *Records) Tell(ctx context.Context, id uint32, tell func(message []byte) error) error {
	s, err := r.b.table.Load().shards[id].serving()
	if err != nil {
		return err
	}
	g := commitlog.NewGrowth()
	defer s.Log.Notify(g)()
	places := filled(s.Log.Log)
	for {
		for first := true; first || len(places) > 0; first = false {
			some := places[:min(len(places), maxPlaces)]
			places = places[len(some):]
			if err := tell(appendPlaces(nil, some)); err != nil {
				return err
			}
		}
		select {
		case <-g.C():
			places = shown(s.Log.Log, g.Take(nil))
		case <-s.Log.Done():
			return translate(s.Log.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// filled lists the partitions of a log that have records.
func filled(log *commitlog.Log) (all []Place) {
	for _, t := range log.Topics() {
		if hidden(t) {
			continue
		}
		for p := range t.Partitions {
			if _, end, err := log.Bounds(t.ID, p); err == nil && end > 0 {
				all = append(all, Place{Topic: t.ID, Partition: p})
			}
		}
	}
	return all
}

// shown removes the partitions of hidden topics.
func shown(log *commitlog.Log, all []Place) []Place {
	kept := all[:0]
	names := make(map[weir.TopicID]bool)
	for _, at := range all {
		hides, known := names[at.Topic]
		if !known {
			t, ok := log.TopicByID(at.Topic)
			hides = ok && hidden(t)
			names[at.Topic] = hides
		}
		if !hides {
			kept = append(kept, at)
		}
	}
	return kept
}
