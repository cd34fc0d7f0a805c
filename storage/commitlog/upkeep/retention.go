package upkeep

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/segment"
)

// trimmed is a partition's new first offset.
type trimmed struct {
	key   state.Place
	start int64
}

// expired lists what the topics' retention no longer keeps: whole pieces, oldest first.
// Records in slots are always kept.
func (m *Maintainer) expired(now time.Time) (all []trimmed) {
	m.log.View(func(s *state.State) {
		defaults := m.log.Defaults()
		for _, t := range s.Topics {
			if !deletes(t, defaults) {
				continue
			}
			keep, age := limit(t, "retention.bytes", defaults), limit(t, "retention.ms", defaults)
			if keep < 0 && age < 0 {
				continue
			}
			for _, p := range t.Parts {
				if m.apart.held && m.apart.has(p.Key) {
					continue
				}
				if start := expires(p, keep, age, now.UnixMilli()); start > p.Start {
					all = append(all, trimmed{p.Key, start})
				}
			}
		}
	})
	return all
}

// setting returns the topic's own value of a setting, or else the default. The default
// is for users' topics only: Weir's own topics keep their records.
func setting(t *state.TopicData, name string, defaults map[string]string) (value string, set bool) {
	if value, set = t.Configs[name]; !set && !strings.HasPrefix(t.Name, state.OwnTopics) {
		value, set = defaults[name]
	}
	return value, set
}

// has reports whether a word is in the topic's cleanup.policy.
func has(t *state.TopicData, policy string, defaults map[string]string) (has, set bool) {
	value, set := setting(t, "cleanup.policy", defaults)
	return slices.Contains(strings.Split(strings.ReplaceAll(value, " ", ""), ","), policy), set
}

// deletes reports whether the topic deletes old records: cleanup.policy contains
// delete, as it does by default.
func deletes(t *state.TopicData, defaults map[string]string) bool {
	yes, set := has(t, "delete", defaults)
	return yes || !set
}

// limit returns a setting that is a number; -1, no limit, if there is none.
func limit(t *state.TopicData, name string, defaults map[string]string) int64 {
	value, _ := setting(t, name, defaults)
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
		return n
	}
	return -1
}

// expires returns the first offset that is kept.
func expires(p *state.Partition, keep, age, now int64) int64 {
	total := p.Bytes
	start, stable := p.Start, p.Stable(p.End)
	for i := range p.Pieces {
		x := &p.Pieces[i]
		if x.Next > stable {
			break // records of an open transaction are kept
		}
		old := age >= 0 && x.Time != segment.NoTime && x.Time < now-age || age >= 0 && x.Time == segment.NoTime
		if total -= x.Data(); !old && (keep < 0 || total < keep) {
			break
		}
		start = max(start, x.Next)
	}
	return start
}

// expires reports whether there is something to trim.
func (m *Maintainer) expires() bool { return len(m.expired(m.log.Now())) > 0 }

// trim moves the first offsets of partitions.
func (m *Maintainer) trim(*pass) error {
	for _, t := range m.expired(m.log.Now()) {
		if err := m.propose(state.KindTrimmed, state.EncodeTrimmed(t.key, t.start)); err != nil {
			return fmt.Errorf("%v: %w", t.key, err)
		}
	}
	return nil
}

// sweep deletes the segments that were garbage when the last pass ended. Those that
// compaction may be reading stay for the next pass.
func (m *Maintainer) sweep(p *pass) error {
	p.swept = m.garbage
	if m.garbage = nil; m.reading {
		p.swept = nil
	}
	if err := m.deleteSegments(p.swept); err != nil && m.ctx.Err() != nil {
		return m.ctx.Err()
	} else if err != nil {
		m.log.Logger.Warn("unneeded segments not deleted: trying again", "shard", m.log.Shard, "segments", len(p.swept), "err", err)
		p.swept = nil
	}
	return nil
}

// deleteBatch is how many objects one request deletes.
const deleteBatch = 1000

// deleteSegments removes segments. Slots are deleted by the journal alone: it knows
// which of them a recovery needs.
func (m *Maintainer) deleteSegments(ids []state.SegmentID) error {
	var keys []string
	var slots []journal.Position
	for _, id := range ids {
		if id.Slot {
			slots = append(slots, id.Position())
		} else {
			keys = append(keys, id.Key(m.log.Shard))
		}
	}
	for batch := range slices.Chunk(keys, deleteBatch) {
		if err := m.log.Bucket.Delete(m.ctx, batch...); err != nil {
			return err
		}
	}
	if len(slots) == 0 {
		return nil
	}
	return m.log.Remove(m.ctx, slots)
}

// leftovers deletes the segments that earlier owners stored and never installed. It
// finds them by epoch: an epoch that has ended installs nothing more.
func (m *Maintainer) leftovers(*pass) error {
	if m.clean {
		return nil
	}
	l, first := m.log, uint64(0)
	l.View(func(s *state.State) { first = s.Cleaned + 1 })
	if l.lost != nil {
		m.clean = true // a repair cannot tell which segments are leftovers
		return nil
	}
	for epoch := first; epoch < m.epoch; epoch++ {
		// The log does not know this epoch, so it must not delete its segments. Open has
		// made sure that there are none.
		if !m.knows(epoch) {
			continue
		}
		prefix := segment.Prefix(l.Shard, epoch)
		for after := ""; ; {
			keys, err := l.Bucket.List(m.ctx, prefix, after, 1000)
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				break
			}
			after = keys[len(keys)-1]
			if dead := m.unknown(epoch, prefix, keys); len(dead) > 0 {
				if err := l.Bucket.Delete(m.ctx, dead...); err != nil {
					return err
				}
				l.Logger.Info("deleted segments that were stored just before a crash and are not part of the log", "shard", l.Shard, "epoch", epoch, "segments", len(dead))
			}
			if len(keys) < 1000 {
				break
			}
		}
	}
	if err := m.removeStrays(first); err != nil {
		return err
	}
	m.clean = true
	return nil
}

// removeStrays deletes slots of epochs from first on that arrived after they had been
// deleted. Where slots were deleted, only those that serve as segments are left.
func (m *Maintainer) removeStrays(first uint64) error {
	l, before := m.log, journal.Position{}
	l.View(func(s *state.State) { before = s.Truncated() })
	strays, err := journal.Strays(m.ctx, l.Bucket, l.Shard, first, before, func(pos journal.Position) (known bool) {
		l.View(func(s *state.State) { known = s.Slots.Has(pos) || slices.Contains(s.Garbage, state.SlotID(pos)) })
		return known
	})
	if err != nil || len(strays) == 0 {
		return err
	}
	l.Logger.Info("slots arrived after they had been deleted: they are deleted again", "shard", l.Shard, "slots", len(strays))
	return l.Remove(m.ctx, strays)
}

// unknown picks the segments that the log does not know.
func (m *Maintainer) unknown(epoch uint64, prefix string, keys []string) (dead []string) {
	m.log.View(func(s *state.State) {
		garbage := make(map[state.SegmentID]bool, len(s.Garbage))
		for _, id := range s.Garbage {
			garbage[id] = true
		}
		for _, key := range keys {
			number, err := strconv.ParseUint(strings.TrimPrefix(key, prefix), 10, 64)
			id := state.SegmentID{Epoch: epoch, Number: number}
			if err == nil && s.Segments[id] == 0 && !garbage[id] && !s.IsLent(id) {
				dead = append(dead, key)
			}
		}
	})
	return dead
}
