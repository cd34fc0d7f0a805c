package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"sync"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment/reader"
	"github.com/weirmq/weir/storage/weir"
)

// fetchRuns bounds the runs of one Fetch, and with it the requests to the
// bucket that go out at once.
const fetchRuns = 16

// lookAgain is how many times a read starts over because its data was rewritten
// meanwhile.
const lookAgain = 5

// Fetch returns stored batches of a partition in order, beginning with the one
// that holds offset, or the first one behind it where compaction has left a hole:
// about maxBytes of them, at least one if there is any. At the end of the
// partition it returns none.
//
// Errors: ErrUnknownTopic; ErrOffsetOutOfRange, with Start and End set;
// ErrCorrupt, naming the object, for bytes at rest that are not what was
// written; ErrFenced, ErrClosed; and the bucket's.
func (l *Log) Fetch(ctx context.Context, topic weir.TopicID, partition int32, offset int64, maxBytes int) (Fetched, error) {
	return l.fetch(ctx, state.Place{Topic: topic, Partition: partition}, offset, maxBytes, false)
}

// FetchCommitted is Fetch for readers of committed records (read_committed). It returns
// nothing at or behind the last stable offset, and lists the aborted transactions whose
// records are among the batches.
//
// Errors: as Fetch. ErrOffsetOutOfRange is for what lies beyond the end, not for
// what lies between the last stable offset and the end.
func (l *Log) FetchCommitted(ctx context.Context, topic weir.TopicID, partition int32, offset int64, maxBytes int) (Fetched, error) {
	return l.fetch(ctx, state.Place{Topic: topic, Partition: partition}, offset, maxBytes, true)
}

func (l *Log) fetch(ctx context.Context, key state.Place, offset int64, maxBytes int, committed bool) (Fetched, error) {
	lease := new(Lease)
	for try := 1; ; try++ {
		v, err := l.look(key)
		if err != nil {
			return Fetched{}, err
		}
		f := Fetched{Start: v.start, End: v.end, Stable: v.stable}
		if offset < f.Start || offset > f.End {
			return f, fmt.Errorf("%w: %d is not in %d..%d", ErrOffsetOutOfRange, offset, f.Start, f.End)
		}
		if committed && offset >= v.stable {
			return f, nil
		}
		f.Batches, err = l.collect(ctx, key, v, offset, maxBytes, lease)
		switch {
		case err == nil:
			f.Lease = lease
			l.readable(key, v, offset)
			if committed {
				f.decided(v, offset)
			}
			return f, nil
		case !errors.Is(err, fs.ErrNotExist):
			l.unreadable(key, v, offset, err)
			return f, err
		case try == lookAgain:
			l.unreadable(key, v, offset, err)
			return f, fmt.Errorf("%w: %w", state.ErrCorrupt, err)
		}
		lease.Release()
	}
}

// Committed reports whether readers of committed records get one of the batches: it is no
// marker, and belongs to no aborted transaction.
func (f *Fetched) Committed(b record.Batch) bool {
	if b.Control() || !b.Transactional() {
		return !b.Control()
	}
	return !slices.ContainsFunc(f.Aborted, func(a state.Aborted) bool {
		return a.Producer == b.ProducerID() && a.First <= b.BaseOffset() && b.BaseOffset() <= a.Last
	})
}

// decided removes the batches behind the last stable offset, and sets Aborted. A
// transaction begins with a batch: none lies on both sides of the last stable offset.
func (f *Fetched) decided(v view, offset int64) {
	n := len(f.Batches)
	for n > 0 && record.Batch(f.Batches[n-1]).BaseOffset() >= v.stable {
		n--
	}
	if f.Batches = f.Batches[:n]; n > 0 {
		f.Aborted = state.Overlapping(v.aborted, offset, record.Batch(f.Batches[n-1]).NextOffset())
	}
}

// view is where the records of a partition lie at one moment. Its contents are never
// changed.
type view struct {
	start, end int64
	stable     int64 // the last stable offset
	pieces     []state.Piece
	index      []state.Extent
	aborted    []state.Abort
	bias       int32
}

// look returns the durable view of a partition.
func (l *Log) look(key state.Place) (view, error) {
	if err := l.Err(); err != nil {
		return view{}, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	p, err := l.partition(key)
	if err != nil {
		return view{}, err
	}
	return view{p.Start, p.End, p.Stable(p.End), p.Pieces, p.Index, p.Aborted, p.Bias}, nil
}

// collect reads from offset on: first what lies in segments, then in slots.
// fs.ErrNotExist: an object of the view is gone.
func (l *Log) collect(ctx context.Context, key state.Place, v view, offset int64, maxBytes int, lease *Lease) ([][]byte, error) {
	var batches [][]byte
	size := 0
	i := sort.Search(len(v.pieces), func(i int) bool { return v.pieces[i].Next > offset })
	for i < len(v.pieces) && (len(batches) == 0 || size < maxBytes) {
		got, next, err := l.collectPieces(ctx, key, v, i, offset, maxBytes-size, lease)
		if err != nil && len(batches) > 0 {
			return batches, nil // the read that begins there reports the error
		}
		if err != nil {
			return nil, fmt.Errorf("read offset %d of partition %d of topic %v: %w", offset, key.Partition, key.Topic, state.Translate(err))
		}
		for _, b := range got {
			batches, size = append(batches, b), size+len(b)
		}
		for offset = next; i < len(v.pieces) && v.pieces[i].Next <= offset; {
			i++
		}
		if i < len(v.pieces) && v.pieces[i].Base < offset {
			return batches, nil // there may be more in this piece
		}
	}
	if len(batches) > 0 || offset >= v.end || len(v.index) == 0 {
		return batches, nil
	}
	first := holding(v.index, offset)
	last, size := first+1, int(v.index[first].Size)
	for last < len(v.index) && last-first < fetchRuns && size < maxBytes {
		size += int(v.index[last].Size)
		last++
	}
	runs, err := l.load(ctx, key, v.index[first:last], lease)
	if err != nil {
		return nil, err
	}
	return trim(runs, offset, maxBytes), nil
}

// rowAhead is how many pieces behind the one to read the reader is told of.
const rowAhead = 16

// collectPieces reads from offset on, which lies in the i-th piece, and perhaps in the
// pieces behind it. next is where the read ended.
func (l *Log) collectPieces(ctx context.Context, key state.Place, v view, i int, offset int64, maxBytes int, lease *Lease) (got []record.Batch, next int64, err error) {
	x := &v.pieces[i]
	next = x.Next
	var data []byte
	if x.Segment.Slot {
		data = l.tail.get(cacheKey{key, x.Base}, lease)
	}
	if data != nil {
		batches, _, err := state.CutRun(data, x.Base, v.leader(x))
		if err != nil {
			return nil, 0, err
		}
		for _, b := range trim([][]record.Batch{batches}, offset, maxBytes) {
			got = append(got, b)
		}
	} else {
		end := i + 1
		for end < min(len(v.pieces), i+1+rowAhead) && v.pieces[end].Segment.Slot {
			end++
		}
		row := make([]reader.Place, end-i)
		for j := range row {
			row[j] = v.place(l.shard, key, &v.pieces[i+j])
		}
		if got, err = l.blocks.Read(ctx, row, offset, maxBytes); err != nil {
			return nil, 0, err
		}
		next = row[len(row)-1].Piece.Next
	}
	if n := len(got); n > 0 {
		next = got[n-1].NextOffset()
	}
	return got, next, nil
}

// place says where a piece lies, for the reader.
func (v *view) place(shard uint32, key state.Place, x *state.Piece) reader.Place {
	return reader.Place{
		Object: reader.Object{Epoch: x.Segment.Epoch, Number: x.Segment.Number, Shard: x.Segment.Shard(shard), Slot: x.Segment.Slot, Leader: v.leader(x)},
		Piece:  x.Ref(key),
	}
}

// leader returns the leader epoch of the batches of a piece in a slot, 0 for others.
func (v *view) leader(x *state.Piece) int32 {
	if !x.Segment.Slot {
		return 0
	}
	return int32(x.Segment.Epoch) + v.bias
}

// objectKey names the objects that pieces lie in.
func objectKey(o reader.Object) string {
	return state.SegmentID{Epoch: o.Epoch, Number: o.Number, Slot: o.Slot}.Key(o.Shard)
}

// holding finds the extent that holds an offset, which is not beyond the end.
func holding(index []state.Extent, offset int64) int {
	i, found := slices.BinarySearchFunc(index, offset, func(x state.Extent, offset int64) int {
		switch {
		case x.Base < offset:
			return -1
		case x.Base > offset:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	return i
}

// load returns the batches of each extent, from memory or from the bucket.
func (l *Log) load(ctx context.Context, key state.Place, extents []state.Extent, lease *Lease) ([][]record.Batch, error) {
	runs := make([][]record.Batch, len(extents))
	errs := make([]error, len(extents))
	var wg sync.WaitGroup
	for i, x := range extents {
		data := l.tail.get(cacheKey{key, x.Base}, lease)
		if data == nil {
			data = l.cold.get(cacheKey{key, x.Base}, lease)
		}
		if data != nil {
			runs[i], _, errs[i] = state.CutRun(data, x.Base, x.Leader)
			continue
		}
		wg.Go(func() { runs[i], errs[i] = l.read(ctx, key, x) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("read offset %d of partition %d of topic %v: %w", extents[i].Base, key.Partition, key.Topic, err)
		}
	}
	return runs, nil
}

// read gets a run from its slot, and verifies it: the batches' own CRCs, and against
// the index what these do not cover.
func (l *Log) read(ctx context.Context, key state.Place, x state.Extent) ([]record.Batch, error) {
	object := journal.SlotKey(l.shard, x.Position())
	data, err := l.bucket.Get(ctx, object, int64(x.At), int64(x.Size))
	if err != nil {
		return nil, err
	}
	if len(data) != int(x.Size) {
		return nil, fmt.Errorf("%w: %s ends early", state.ErrCorrupt, object)
	}
	batches, _, err := state.CutRun(data, x.Base, x.Leader)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", object, err)
	}
	for _, b := range batches {
		if err := b.Verify(); err != nil {
			return nil, fmt.Errorf("%w: %s: batch at offset %d: %w", state.ErrCorrupt, object, b.BaseOffset(), err)
		}
	}
	l.cold.add(cacheKey{key, x.Base}, data, nil)
	return batches, nil
}

// trim leaves out the batches before offset, and those that are too much.
func trim(runs [][]record.Batch, offset int64, maxBytes int) [][]byte {
	var batches [][]byte
	size := 0
	for _, run := range runs {
		for _, b := range run {
			if b.NextOffset() <= offset {
				continue
			}
			if size += len(b); len(batches) > 0 && size > maxBytes {
				return batches
			}
			batches = append(batches, b)
		}
	}
	return batches
}
