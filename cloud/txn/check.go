package txn

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/storage/weir"
)

// CheckShards proves from the bytes at rest what must hold between the shards of a
// cluster, of which there are so many:
//
//   - Each open transaction in a partition is one that its coordinator knows, and of which
//     the partition is part: otherwise it would be open for ever.
//   - Staged offsets belong to such a transaction.
//   - No transaction has ended in a shard that its coordinator has not begun.
//
// The logs must be sound. Nodes may run meanwhile: the shards are read one after the other,
// so what is found counts only if it is found again. It claims nothing and writes nothing.
func CheckShards(ctx context.Context, b storage.Bucket, shards int) (problems []string, err error) {
	const passes, between = 3, time.Second
	for pass := range passes {
		found, err := checkOnce(ctx, b, shards)
		if err != nil {
			return nil, fmt.Errorf("check transactions: %w", err)
		}
		if pass > 0 {
			found = slices.DeleteFunc(found, func(p string) bool { return !slices.Contains(problems, p) })
		}
		if problems = found; len(problems) == 0 || pass == passes-1 {
			break
		}
		if err := pause.For(ctx, between); err != nil {
			return nil, err
		}
	}
	return problems, nil
}

// reading is one shard, as it is read.
type reading struct {
	shard    uint32
	state    *state.State
	txns     *Coordinator
	parts    *Participant
	machines state.Machines
}

func (r *reading) Apply(pos journal.Position, entries []journal.Entry) error {
	for _, e := range entries {
		var err error
		if m := r.machines[e.Kind]; m != nil {
			err = m.Apply(e.Kind, e.Body)
		} else if e.Kind == state.KindMovedOut || e.Kind == state.KindImported {
			var effect state.MoveEffect
			if effect, err = r.state.ApplyMove(pos, e); err == nil {
				err = r.machines.Take(effect)
			}
		} else if e.Kind < state.FirstMachineKind {
			err = r.state.Apply(pos, e)
		}
		if err != nil {
			return fmt.Errorf("shard %d, %v: %w", r.shard, pos, err)
		}
	}
	return nil
}

func (r *reading) Restore(_ journal.Position, body []byte) error {
	s, sections, err := state.DecodeCheckpoint(body)
	if err != nil {
		return err
	}
	r.state = s
	return r.machines.Restore(sections)
}

// other is a machine whose entries say nothing about transactions.
type other struct{ kind uint16 }

// lastKind is above the kinds of all machines.
const lastKind = 1000

func (o other) Kinds() []uint16           { return []uint16{o.kind} }
func (other) Apply(uint16, []byte) error  { return nil }
func (other) Snapshot() []byte            { return nil }
func (other) Restore([]byte) error        { return nil }
func (other) Export(weir.SliceSet) []byte { return nil }
func (other) Import([]byte) error         { return nil }
func (other) Remove(weir.SliceSet)        {}

// read reads a shard.
func read(ctx context.Context, b storage.Bucket, shard uint32) (*reading, error) {
	r := &reading{shard: shard, state: state.Empty(), txns: New(Options{}), parts: NewParticipant(Options{})}
	var err error
	all := []state.Machine{r.txns, r.parts}
	for kind := state.FirstMachineKind; kind < lastKind; kind++ {
		if !slices.Contains(r.txns.Kinds(), kind) && !slices.Contains(r.parts.Kinds(), kind) {
			all = append(all, other{kind})
		}
	}
	if r.machines, err = state.NewMachines(all); err != nil {
		return nil, err
	}
	if _, err := journal.Replay(ctx, journal.Options{Bucket: b, Shard: shard}, r); err != nil {
		return nil, fmt.Errorf("read shard %d: %w", shard, err)
	}
	return r, nil
}

func checkOnce(ctx context.Context, b storage.Bucket, shards int) ([]string, error) {
	var all []*reading
	known := make(map[int64]*durable) // by producer id
	for shard := range uint32(shards) {
		r, err := read(ctx, b, shard)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		for _, t := range r.txns.ids {
			known[t.producer.ID] = &t.durable
			if t.ending != nil {
				known[t.ending.producer.ID] = &t.durable
			}
		}
	}
	var problems []string
	for _, r := range all {
		problems = slices.Concat(problems, r.hanging(known), r.stray(known))
	}
	slices.Sort(problems)
	return problems, nil
}

// hanging finds open transactions that no coordinator will end.
func (r *reading) hanging(known map[int64]*durable) (problems []string) {
	for _, t := range r.state.Topics {
		for _, p := range t.Parts {
			for id, x := range p.Producers.Open {
				d := known[id]
				if d != nil && (d.state == Ongoing || d.ending != nil) {
					if _, part := d.places[p.Key]; part {
						continue
					}
				}
				problems = append(problems, fmt.Sprintf("shard %d: %v: the transaction of producer %d that is open from offset %d on is none that its coordinator knows", r.shard, p.Key, id, x.First))
			}
		}
	}
	return problems
}

// stray finds staged offsets that no coordinator will commit or drop, and ends that none
// has decided.
func (r *reading) stray(known map[int64]*durable) (problems []string) {
	for id, x := range r.parts.producers {
		d := known[id]
		if open := d != nil && (d.spans || d.ending != nil); x.number != 0 && (!open || d.number != x.number) {
			problems = append(problems, fmt.Sprintf("shard %d: offsets of transaction %d of producer %d are staged, which is none that its coordinator knows", r.shard, x.number, id))
		}
		if d != nil && x.ended > d.number {
			problems = append(problems, fmt.Sprintf("shard %d: transaction %d of producer %d has ended, and its coordinator is at %d", r.shard, x.ended, id, d.number))
		}
	}
	return problems
}
