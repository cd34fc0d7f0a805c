package upkeep

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// job is the runs of one partition that become a piece, or several.
type job struct {
	key     state.Place
	extents []state.Extent
	next    int64 // behind the last one
	bytes   int64 // of those that are rewritten

	// stays is nil if all runs are rewritten. Otherwise it has for each run that stays in
	// its slot the bytes that lie in the slot, and 0 for the others.
	stays []uint32
}

// rewrite moves what lies in the oldest slots into segments. The rest is left for
// another pass, so that each pass ends with a checkpoint, even if writers are faster.
func (m *Maintainer) rewrite(p *pass) error {
	m.more = false
	jobs, left := m.jobs(m.passLimit())
	p.left = left
	p.saves = p.saves || m.saves(p)
	if len(jobs) == 0 {
		return nil
	}
	w := &rewriter{m: m, slots: make(map[journal.Position][]byte), uses: make(map[journal.Position]int)}
	stuck := len(m.stuck)
	for i := range jobs {
		w.left += jobs[i].bytes
	}
	w.building, w.storing = m.beginPass(w.left)
	w.fetch(jobs)
	err := w.all(jobs)
	m.more = left.slots > 0 && (w.moved > 0 || len(m.stuck) > stuck)
	return err
}

// passLimit is how much a pass takes on. Slots that are no longer in the tail cache are
// read back all at once, so a small pass takes less memory. While writers are slowed
// down, larger passes get more done.
func (m *Maintainer) passLimit() tally {
	times := int64(1)
	if m.strain() > 1 {
		times = 2
	}
	return tally{times * m.o.Bytes, times * int64(m.o.Slots)}
}

// jobs lists the runs of the oldest slots, about limit of them to be rewritten, large
// partitions first. It leaves out partitions that are stuck. left is what lies in
// younger slots.
func (m *Maintainer) jobs(limit tally) (jobs []job, left tally) {
	loads := m.loads(m.stuck)
	order := make([]journal.Position, 0, len(loads.slots))
	for pos := range loads.slots {
		order = append(order, pos)
	}
	slices.SortFunc(order, func(a, b journal.Position) int {
		if a.Before(b) {
			return -1
		}
		return 1
	})
	var last journal.Position
	taken := tally{}
	for _, pos := range order {
		size := loads.slots[pos].rewritten()
		full := taken.bytes+size > limit.bytes || taken.slots == limit.slots
		if left.slots > 0 || full && taken.slots > 0 {
			left.bytes += loads.slots[pos].all
			left.slots++
			continue
		}
		last = pos
		taken.bytes += size
		taken.slots++
	}
	m.log.View(func(s *state.State) {
		for _, t := range s.Topics {
			for _, p := range t.Parts {
				if j := m.jobOf(p, last, loads); len(j.extents) > 0 {
					jobs = append(jobs, j)
				}
			}
		}
	})
	slices.SortFunc(jobs, func(a, b job) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), bytes.Compare(a.key.Topic[:], b.key.Topic[:]))
	})
	m.lastApart(jobs)
	return jobs, left
}

// jobOf is the runs of a partition up to and including those of a slot.
func (m *Maintainer) jobOf(p *state.Partition, last journal.Position, loads loads) job {
	j := job{key: p.Key}
	large := int64(0)
	for i := 0; i < len(p.Index) && !m.stuck[p.Key]; i++ {
		if last.Before(p.Index[i].Position()) {
			break
		}
		j.extents, j.next = p.Index[:i+1:i+1], p.NextOf(i)
		j.bytes += int64(p.Index[i].Size)
		slot := loads.adopts(&p.Index[i])
		if m.apart.has(p.Key) {
			slot = 0
		}
		if slot > 0 {
			large += int64(p.Index[i].Size)
			if j.stays == nil {
				j.stays = make([]uint32, i, len(p.Index))
			}
		}
		if j.stays != nil {
			j.stays = append(j.stays, uint32(slot))
		}
	}
	if mostly(large, j.bytes) {
		j.bytes -= large
	} else {
		j.stays = nil
	}
	return j
}

// rewriter makes segments of jobs.
type rewriter struct {
	m       *Maintainer
	b       *segment.Builder
	id      state.SegmentID
	placed  []state.Placed // the pieces in b, and those in slots between them
	moved   int            // pieces installed
	uploads []*upload
	clean   bool // its pieces have been compacted; see state.SegmentID.Clean

	building, storing *trickle // of a pass; nil in compaction

	left  int64                       // bytes of jobs that are not written
	slots map[journal.Position][]byte // whole slots that several jobs want
	uses  map[journal.Position]int    // small extents of jobs, by slot
	ahead map[int64][]byte            // large runs of the job at hand that come next, by first offset
}

// upload is a segment that is being stored.
type upload struct {
	id     state.SegmentID
	pieces []state.Placed
	cancel context.CancelFunc
	stored chan error // capacity 1
}

// maxUploads is how many segments are stored at once, while the next one is built:
// one alone waits for the bucket most of the time.
const maxUploads = 3

// all writes every job. On an error it abandons what it has not installed.
func (w *rewriter) all(jobs []job) error {
	if err := w.each(jobs); err != nil {
		w.abandon()
		return err
	}
	return w.finish()
}

// each writes large partitions first, which get objects of their own; small ones
// share, but not with those that are kept apart.
func (w *rewriter) each(jobs []job) error {
	for i := range jobs {
		j := &jobs[i]
		if i > 0 && w.m.apart.has(j.key) != w.m.apart.has(jobs[i-1].key) {
			if err := w.store(); err != nil {
				return err
			}
		}
		err := w.job(j)
		w.left -= j.bytes
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, state.ErrCorrupt):
			// Runs that cannot be read stay where they are. Their slots, and all slots
			// behind them, are kept. Other partitions go on.
			w.m.stuck[j.key] = true
			w.m.log.Logger.Error("records not rewritten into a segment", "partition", j.key, "err", err)
		case err != nil:
			return err
		}
		if j.bytes >= int64(w.m.o.Segment)/2 || len(w.placed) >= w.most() {
			if err := w.store(); err != nil {
				return err
			}
		}
	}
	return nil
}

// most is how many pieces fit into one entry.
func (w *rewriter) most() int { return min(20_000, w.m.log.FillBytes/2/maxPlaced) }

// maxPlaced is the bytes that a piece takes in an entry at most.
const maxPlaced = 16 + 5 + 4*10 + 4*5 + 10 + 6

// begin starts a piece that will get about so many bytes.
func (w *rewriter) begin(key state.Place, base, bytes int64) {
	if w.b == nil {
		w.m.number++
		w.id = state.SegmentID{Epoch: w.m.epoch, Number: w.m.number}
		if w.clean {
			w.id.Number += state.CleanNumbers
		}
		w.b = segment.NewBuilder(w.m.log.Shard, w.id.Epoch, w.id.Number)
		room := max(bytes, w.left)
		if bytes >= int64(w.m.o.Segment)/2 {
			room = bytes // it gets an object of its own
		}
		w.b.Reuse(w.m.memory.take())
		w.b.Grow(int(min(room, int64(w.m.o.Segment+w.m.log.FillBytes))))
	}
	w.b.Begin(key.Topic, key.Partition, base)
}

// job makes pieces of the runs of a partition, in their order.
func (w *rewriter) job(j *job) error {
	for from := 0; from < len(j.extents); {
		to, bytes := from, int64(0)
		for to < len(j.extents) && !j.leaves(to) {
			bytes += int64(j.extents[to].Size)
			to++
		}
		if to > from {
			if err := w.one(&job{key: j.key, extents: j.extents[from:to], next: j.nextOf(to - 1), bytes: bytes}); err != nil {
				return err
			}
		}
		if from = to; to < len(j.extents) {
			w.adopt(j, to)
			from++
		}
		if len(w.placed) >= w.most() {
			if err := w.store(); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextOf is the offset behind the i-th run.
func (j *job) nextOf(i int) int64 {
	if i+1 < len(j.extents) {
		return j.extents[i+1].Base
	}
	return j.next
}

// one writes the batches of a partition, in one piece as long as it fits.
func (w *rewriter) one(j *job) error {
	w.begin(j.key, j.extents[0].Base, j.bytes)
	left := j.bytes
	var group []record.Batch
	size, next := 0, j.extents[0].Base
	begun := 0 // the run that the open piece begins with
	flush := func() error {
		for _, b := range segment.Merge(group) {
			if err := w.b.Append(b); err != nil {
				return state.Translate(err)
			}
		}
		group, size = group[:0], 0
		return nil
	}
	for i, x := range j.extents {
		left -= int64(x.Size)
		if i%fetchers == 0 {
			w.readAhead(j.key, j.extents[i:])
		}
		data, err := w.data(j.key, x)
		var batches []record.Batch
		if err == nil {
			batches, next, err = state.CutRun(data, x.Base, x.Leader)
		}
		if err != nil && w.m.log.lost != nil && state.Permanent(err) {
			cause := err
			if err = flush(); err == nil {
				next, begun = w.giveUp(j, i, i > begun, left, cause), i+1
				continue
			}
		}
		if err != nil {
			w.b.Drop()
			w.m.log.Unreadable(j.key, x.Base, err)
			return err
		}
		for _, b := range batches {
			group, size = append(group, b), size+len(b)
		}
		if size < segment.BlockSize && i+1 < len(j.extents) {
			continue
		}
		w.building.spend(size)
		if err := flush(); err != nil {
			w.b.Drop()
			return err
		}
		if w.b.Size() < w.m.o.Segment || i+1 == len(j.extents) {
			continue
		}
		w.end(j.key, next)
		if err := w.store(); err != nil {
			return err
		}
		w.begin(j.key, next, left)
		begun = i + 1
	}
	if begun < len(j.extents) {
		w.end(j.key, next)
	}
	return nil
}

// giveUp makes an empty piece of a run that cannot be read, and returns the offset
// behind it. before reports that the open piece holds earlier runs; it ends before this
// one.
func (w *rewriter) giveUp(j *job, i int, before bool, left int64, cause error) (next int64) {
	x := j.extents[i]
	next = j.nextOf(i)
	w.m.giveUp(j.key, x.Base, next, journal.SlotKey(w.m.log.Shard, x.Position()), cause)
	if before {
		w.end(j.key, x.Base)
		w.begin(j.key, x.Base, left)
	}
	w.end(j.key, next)
	if i+1 < len(j.extents) {
		w.begin(j.key, next, left)
	}
	return next
}

func (w *rewriter) end(key state.Place, next int64) {
	x := w.b.End(next)
	w.placed = append(w.placed, state.Placed{Key: key, Piece: state.Piece{
		Base: x.Base, Next: x.Next, Time: x.MaxTime, Segment: w.id,
		At: x.At, Size: x.Size, Index: x.Index, Records: x.Records,
	}})
}

// finish stores the segment under way, and returns when the pieces of all are
// installed.
func (w *rewriter) finish() error {
	err := w.store()
	for err == nil && len(w.uploads) > 0 {
		err = w.install()
	}
	if err != nil {
		w.abandon()
	}
	return err
}

// store begins to store the segment under way. Pieces in slots only have to wait for
// their turn.
func (w *rewriter) store() error {
	b, placed := w.b, w.placed
	if w.b, w.placed = nil, nil; len(placed) == 0 {
		return nil
	}
	var object []byte
	if b != nil && slices.ContainsFunc(placed, func(x state.Placed) bool { return !x.Segment.Slot }) {
		var err error
		if object, _, err = b.Finish(); err != nil {
			return fmt.Errorf("finish segment %d/%d: %w", w.id.Epoch, w.id.Number, err)
		}
	}
	if len(w.uploads) == maxUploads {
		if err := w.install(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(w.m.ctx)
	s := &upload{w.id, placed, cancel, make(chan error, 1)}
	w.uploads = append(w.uploads, s)
	if object == nil {
		s.stored <- nil
		return nil
	}
	go func() {
		clear, err := w.m.store(storage.WithPace(ctx, w.storing.spend), s.id.Key(w.m.log.Shard), object)
		if clear { // else it may still be being sent
			w.m.memory.give(object)
		}
		s.stored <- err
	}()
	return nil
}

// segmentMemory holds buffers for building segments, because growing and clearing a
// buffer costs more than filling it. They are given back to the heap when no segment
// has been built for a while.
type segmentMemory chan []byte

func newSegmentMemory() segmentMemory { return make(segmentMemory, maxUploads+1) }

func (s segmentMemory) take() []byte {
	select {
	case memory := <-s:
		return memory
	default:
		return nil
	}
}

func (s segmentMemory) give(memory []byte) {
	select {
	case s <- memory[:0]:
	default:
	}
}

func (s segmentMemory) drop() {
	for s.take() != nil {
	}
}

// install waits until the oldest segment that is being stored is durable, and installs
// its pieces. Those of one partition follow each other, so the order matters. A crash
// before the entry is durable leaves a segment that nothing refers to, which the next
// owner deletes.
func (w *rewriter) install() error {
	s := w.uploads[0]
	w.uploads = w.uploads[1:]
	err := <-s.stored
	s.cancel()
	if err != nil {
		return err
	}
	if err := w.m.propose(state.KindInstalled, state.EncodeInstalled(s.pieces, w.m.log.level)); err != nil {
		return fmt.Errorf("install segment %d/%d: %w", s.id.Epoch, s.id.Number, err)
	}
	w.moved += len(s.pieces)
	w.m.debt.step()
	return nil
}

// abandon cancels the uploads under way and waits for them.
func (w *rewriter) abandon() {
	for _, s := range w.uploads {
		s.cancel()
		<-s.stored
	}
	w.uploads = nil
}

// store makes an object durable whose name only this owner uses. clear reports that the
// first attempt was answered with success, so that no copy of body is still being sent.
func (m *Maintainer) store(ctx context.Context, key string, body []byte) (clear bool, err error) {
	l := m.log
	attempts := 0
	err = storage.Until(ctx, func() error {
		attempts++
		return l.Bucket.Create(ctx, key, body)
	}, storage.ErrExists)
	if !errors.Is(err, storage.ErrExists) {
		if err != nil {
			err = fmt.Errorf("create %s: %w", key, err)
		}
		return err == nil && attempts == 1, err
	}
	// An earlier attempt succeeded, but its answer was lost.
	var there []byte
	err = storage.Until(ctx, func() (err error) {
		there, err = l.Bucket.Get(ctx, key, 0, -1)
		return err
	}, fs.ErrNotExist)
	switch {
	case err != nil:
		return false, fmt.Errorf("read %s: %w", key, err)
	case !bytes.Equal(there, body):
		return false, fmt.Errorf("%w: %s holds other bytes than this owner wrote", state.ErrCorrupt, key)
	}
	return false, nil
}
