package model

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// landed is a record in the log.
type landed struct {
	topic weir.TopicID
	book  int
	part  int32 // in schedules of several shards, whose order is not known: the partition
}

// partition is a partition of one life of a topic.
type partition struct {
	topic weir.TopicID
	no    int32
}

// gapRecord is the value of a record of weir.gaps.
type gapRecord struct {
	Gateway, Buffer, Lane string
	Ranges                [][2]uint64
	Exact                 bool
}

// ledger is the log at rest, read from its bytes by this test's own reader: all
// lives of all topics, in the order of the journal.
type ledger struct {
	several bool // several shards
	names   map[weir.TopicID]string
	deleted map[weir.TopicID]bool
	values  map[partition][]string // of all records, in their order
	records []landed
	gaps    []gapRecord
}

// Apply implements journal.State. The bodies are those of commitlog's entries.
func (l *ledger) Apply(_ journal.Position, entries []journal.Entry) error {
	for _, e := range entries {
		p := e.Body[1:]
		switch e.Kind {
		case 1: // topic created: id, partitions, time, name
			n := binary.BigEndian.Uint16(p[28:])
			l.names[weir.TopicID(p[:16])] = string(p[30 : 30+n])
		case 2: // topic deleted: id
			l.deleted[weir.TopicID(p[:16])] = true
		case 4:
			if err := l.run(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// Restore implements journal.State. The ledger is of all records, so it has to
// begin where the log does.
func (l *ledger) Restore(journal.Position, []byte) error { return errors.ErrUnsupported }

// run reads a run: checksum, topic, partition, base, epoch, number of batches,
// sources, batches.
func (l *ledger) run(p []byte) error {
	topic := weir.TopicID(p[4:20])
	part := partition{topic, int32(binary.BigEndian.Uint32(p[20:]))}
	sources := binary.BigEndian.Uint32(p[40:])
	p = p[44:]
	uvarint := func() uint64 {
		v, n := binary.Uvarint(p)
		p = p[n:]
		return v
	}
	for range sources {
		p = p[uvarint():]
		p = p[13:]
		for range 5 { // prev, first, last, and the row
			uvarint()
		}
	}
	for len(p) > 0 {
		b, rest, err := record.Next(p)
		if err != nil {
			return err
		}
		p = rest
		if err := b.Each(1<<20, func(r *record.Record) error {
			l.values[part] = append(l.values[part], string(r.Value))
			return l.record(topic, part.no, r)
		}); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) record(topic weir.TopicID, part int32, r *record.Record) error {
	if l.names[topic] == weir.GapTopic {
		var g gapRecord
		if err := json.Unmarshal(r.Value, &g); err != nil {
			return fmt.Errorf("read gap: %w", err)
		}
		l.gaps = append(l.gaps, g)
		return nil
	}
	i, err := strconv.Atoi(strings.TrimSuffix(string(r.Value), badSuffix))
	if !l.several {
		part = 0
	}
	l.records = append(l.records, landed{topic, i, part})
	return err
}

// spot is a place of one gateway.
type spot struct {
	gateway string
	place   place
}

// audit compares what was accepted with what was delivered and reported.
func (w *world) audit(l *ledger) error {
	delivered, err := w.deliveries(l)
	if err != nil {
		return err
	}
	exact, some, err := reported(l)
	if err != nil {
		return err
	}
	for i, r := range w.books {
		g := w.gws[r.gateway]
		at := spot{g.id, r.place}
		told := exact[at] || some.has(at)
		silent := r.damaged && !g.disk.reports()
		switch {
		case r.place == place{}:
		case r.accepted && !delivered[i] && !told && !(r.damaged && some.ends(at)) && !silent && !r.lostCard && !w.isAside(r):
			return fmt.Errorf("LOSS: reading %d at %v of %s (key %s, bad %v)", i, r.place, g.id, r.key, r.bad)
		case delivered[i] && exact[at] && !w.lives[r.topic]:
			return fmt.Errorf("FALSE GAP: reading %d at %v of %s is delivered and reported missing", i, r.place, g.id)
		case (exact[at] || told && r.accepted) && !r.bad && !r.damaged && !w.lives[r.topic]:
			return fmt.Errorf("NEEDLESS GAP: reading %d at %v of %s was reported missing", i, r.place, g.id)
		case r.bad && r.accepted && !r.damaged && !r.lostCard && !g.restored && !w.isAside(r) && !g.disk.dead(r.place):
			return fmt.Errorf("NO GRAVE: reading %d at %v of %s is not in the dead letters", i, r.place, g.id)
		}
	}
	return nil
}

func (w *world) isAside(r *reading) bool { return w.gws[r.gateway].aside()[r.place.buffer] }

// deliveries says which readings are in the log, at most once in each life of a
// topic, and in order.
func (w *world) deliveries(l *ledger) (map[int]bool, error) {
	delivered := map[int]bool{}
	seen := map[landed]bool{}
	newest := map[string]int{}
	for _, d := range l.records {
		if d.book < 0 || d.book >= len(w.books) {
			return nil, fmt.Errorf("CORRUPT: reading %d was never made", d.book)
		}
		r := w.books[d.book]
		if l.names[d.topic] != r.topic {
			return nil, fmt.Errorf("ASTRAY: reading %d of topic %s in %s", d.book, r.topic, l.names[d.topic])
		}
		if r.bad {
			return nil, fmt.Errorf("ASTRAY: reading %d was refused and is delivered", d.book)
		}
		once := landed{topic: d.topic, book: d.book}
		if seen[once] {
			return nil, fmt.Errorf("DUPLICATE: reading %d at %v of %s", d.book, r.place, w.gws[r.gateway].id)
		}
		seen[once] = true
		delivered[d.book] = true
		order := fmt.Sprint(r.gateway, r.lane, d.topic, d.part, r.key)
		if before, ok := newest[order]; ok && before > d.book {
			return nil, fmt.Errorf("DISORDER: reading %d at %v of %s (key %s) behind %d at %v",
				d.book, r.place, w.gws[r.gateway].id, r.key, before, w.books[before].place)
		}
		newest[order] = d.book
	}
	return delivered, nil
}

// guesses are the places of which was told that they may be missing.
type guesses struct {
	places map[spot]bool
	first  map[spot]uint64 // the first of each stream, whose place has no sequence
}

func (g guesses) has(at spot) bool { return g.places[at] }

// ends says whether a gap that is not exact begins at or before a place: one at the
// end of a lane says that there were more, and not how many.
func (g guesses) ends(at spot) bool {
	seq := at.place.seq
	at.place.seq = 0
	first, ok := g.first[at]
	return ok && first <= seq
}

// reported are the places that were told to be missing, for sure and perhaps.
func reported(l *ledger) (exact map[spot]bool, some guesses, err error) {
	exact, some = map[spot]bool{}, guesses{map[spot]bool{}, map[spot]uint64{}}
	for _, g := range l.gaps {
		raw, err := hex.DecodeString(g.Buffer)
		if err != nil || len(raw) != len(weir.BufferID{}) {
			return nil, some, fmt.Errorf("CORRUPT: gap of buffer %q", g.Buffer)
		}
		lane := map[string]weir.Lane{"alarm": weir.Alarm, "live": weir.Live, "bulk": weir.Bulk}[g.Lane]
		if stream := (spot{g.Gateway, place{buffer: weir.BufferID(raw), lane: lane}}); !g.Exact {
			first, ok := some.first[stream]
			if !ok || g.Ranges[0][0] < first {
				some.first[stream] = g.Ranges[0][0]
			}
		}
		for _, r := range g.Ranges {
			for s := r[0]; s <= r[1]; s++ {
				at := spot{g.Gateway, place{weir.BufferID(raw), lane, s}}
				if g.Exact {
					exact[at] = true
				} else {
					some.places[at] = true
				}
			}
		}
	}
	return exact, some, nil
}

// check is weirctl check.
func (w *world) check() error {
	report, err := check.Check(context.Background(), w.bucket.Bucket, nil)
	if err != nil {
		return fmt.Errorf("CHECK: %w", err)
	}
	if len(report.Problems) > 0 {
		return fmt.Errorf("CHECK: %s", report.Problems[0])
	}
	return nil
}
