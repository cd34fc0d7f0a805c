package queue

import (
	"slices"

	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/commitlog"
)

// batch is verdicts that share an entry. It is filled while it waits for its turn; the
// caller of its methods holds Engine.mu.
type batch struct {
	host   *host
	queues map[state.QueueID]*verdicts
	freed  []int64 // messages that are no longer delayed
	size   int     // most bytes of its entry, about
	done   []func(error)
	entry  string // its body, when it is on its way
}

// verdicts are what happened to the messages of a queue.
type verdicts struct {
	gone    []int64 // that were leased
	ranges  []state.Range
	counted []int64
	bytes   int64
	lent    int64
}

// batchBytes is the size of an entry from which on verdicts go into another one.
const batchBytes = 512 << 10

func (h *host) newBatch() *batch {
	return &batch{host: h, queues: make(map[state.QueueID]*verdicts), size: 64}
}

// settling returns the batch that waits for its turn. The caller holds Engine.mu.
func (h *host) settling() *batch {
	if n := len(h.batches); n > 0 && h.batches[n-1].size < batchBytes {
		return h.batches[n-1]
	}
	b := h.newBatch()
	h.batches = append(h.batches, b)
	if !h.writing {
		h.writing = true
		h.engine.tasks.run(h.write)
	}
	return b
}

// nextBatch returns the batch whose turn it is, nil if none waits. The caller holds Engine.mu.
func (h *host) nextBatch() *batch {
	if len(h.batches) == 0 {
		return nil
	}
	b := h.batches[0]
	h.batches = slices.Delete(h.batches, 0, 1)
	return b
}

// write writes batches until none waits. What arrives while one is on its way shares the
// next one.
func (h *host) write() {
	e := h.engine
	for {
		e.mu.Lock()
		b := h.nextBatch()
		h.writing = b != nil
		e.mu.Unlock()
		if b == nil {
			return
		}
		answer := make(chan error, 1)
		e.log.Submit(commitlog.Proposal{Commands: b.commands()}, func(_ []int64, err error) { answer <- err })
		b.finish(<-answer) // the log answers, also when it ends
	}
}

func (b *batch) of(id state.QueueID) *verdicts {
	v := b.queues[id]
	if v == nil {
		v = &verdicts{lent: -1}
		b.queues[id] = v
		b.size += 64
	}
	return v
}

// accept ends messages that were leased.
func (b *batch) accept(l *live, ids ...int64) {
	v := b.of(l.q.ID)
	for _, id := range ids {
		held := l.leased[id]
		held.settling = true
		l.leased[id] = held
		v.gone = append(v.gone, id)
		v.bytes += int64(held.size)
		b.size += 10
		if earlyEnd(b.host.engine.o.Mutations) {
			l.giveBack(id)
			l.wake()
		}
	}
}

// gone ends all messages in ranges.
func (b *batch) gone(id state.QueueID, ranges []state.Range, bytes int64) {
	v := b.of(id)
	v.ranges = append(v.ranges, ranges...)
	v.bytes += bytes
	b.size += 20 * len(ranges)
}

// count counts a delivery of a message that goes back to its place.
func (b *batch) count(l *live, id int64) {
	v := b.of(l.q.ID)
	v.counted = append(v.counted, id)
	l.counted[id] = l.count(id) + 1
	b.size += 10
}

// lent raises the offset up to which messages may have been delivered.
func (b *batch) lent(id state.QueueID, highest int64) {
	v := b.of(id)
	v.lent = max(v.lent, highest)
}

// empty reports whether there is nothing to write.
func (b *batch) empty() bool { return len(b.queues) == 0 && len(b.freed) == 0 }

// commands returns the entry, which goes to the log next. The caller does not hold
// Engine.mu.
func (b *batch) commands() []commitlog.Command {
	if b.empty() {
		return nil
	}
	s := state.Settled{Vhost: b.host.topic, Undelayed: b.freed}
	slices.Sort(s.Undelayed)
	for id, v := range b.queues {
		s.Queues = append(s.Queues, state.QueueSettled{ID: id, Gone: merge(v.gone, v.ranges), Bytes: v.bytes, Counted: merge(v.counted, nil), Lent: v.lent})
	}
	slices.SortFunc(s.Queues, func(a, b state.QueueSettled) int { return int(int64(a.ID) - int64(b.ID)) })
	body := s.Append(nil)
	b.entry = string(body)
	e := b.host.engine
	e.mu.Lock()
	e.flying[b.entry] = b
	e.mu.Unlock()
	return []commitlog.Command{{Kind: state.KindSettle, Body: body}}
}

// merge returns ids and ranges as sorted ranges without overlap.
func merge(all []int64, ranges []state.Range) []state.Range {
	slices.Sort(all)
	out := make([]state.Range, 0, len(ranges)+1)
	for _, id := range all {
		if n := len(out); n > 0 && out[n-1].Last >= id-1 {
			out[n-1].Last = max(out[n-1].Last, id)
			continue
		}
		out = append(out, state.Range{First: id, Last: id})
	}
	if len(ranges) == 0 {
		return out
	}
	out = append(out, ranges...)
	slices.SortFunc(out, func(a, b state.Range) int {
		if a.First < b.First {
			return -1
		}
		if a.First > b.First {
			return 1
		}
		return 0
	})
	merged := out[:1]
	for _, r := range out[1:] {
		if last := &merged[len(merged)-1]; r.First <= last.Last+1 {
			last.Last = max(last.Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// end ends the leases of what is gone: the state has just applied the entry. The caller
// holds Engine.mu.
func (b *batch) end() {
	for id, v := range b.queues {
		l := b.host.lives[id]
		if l == nil {
			continue
		}
		most := len(l.leased) >= mostLeased
		for _, id := range v.gone {
			l.drop(id)
			l.leave(id)
			delete(l.counted, id)
		}
		for _, id := range v.counted {
			if l.q.Count(id) >= l.counted[id] {
				delete(l.counted, id)
			}
		}
		if len(v.gone) > 0 && (most || needsUpkeep(l.q)) {
			l.wake()
		}
	}
	b.host.free()
}

// finish tells those who wait for the batch. After an error its leases stay.
func (b *batch) finish(err error) {
	if err != nil {
		e := b.host.engine
		e.mu.Lock()
		delete(e.flying, b.entry)
		e.mu.Unlock()
	}
	for _, done := range b.done {
		done(err)
	}
}

// settle carries out verdicts of a client, and returns the dead letters among them. The
// caller holds Engine.mu.
func (h *host) settle(b *batch, all []Settlement) (rejected []rejects) {
	for _, s := range all {
		l := h.lives[s.Queue]
		if l == nil {
			continue // deleted
		}
		var dead []int64
		reason := reasonRejected
		for _, id := range s.IDs {
			held, ok := l.leased[id]
			if !ok || held.settling {
				continue
			}
			switch verdict := s.Verdict; {
			case verdict == Accept, verdict == Reject && l.q.Settings.DeadLetter == nil:
				b.accept(l, id)
				if verdict == Accept {
					l.counts.Accepted++
					h.counts.Accepted++
				}
			case verdict == Reject:
				held.settling = true
				l.leased[id] = held
				dead = append(dead, id)
			case verdict == Release && l.worn(id):
				held.settling = true
				l.leased[id] = held
				dead, reason = append(dead, id), reasonDeliveryLimit
			case verdict == Release:
				b.count(l, id)
				l.giveBack(id)
			default:
				l.giveBack(id)
			}
		}
		if len(dead) > 0 {
			rejected = append(rejected, rejects{l, dead, reason})
		}
		if s.Verdict == Release || s.Verdict == Return {
			l.requeued = true
			l.wake()
		}
	}
	return rejected
}

// worn reports whether a message that goes back would have been delivered too often. The
// caller holds Engine.mu.
func (l *live) worn(id int64) bool {
	limit := l.q.Settings.DeliveryLimit
	return limit >= 0 && l.count(id)+1 > limit
}
