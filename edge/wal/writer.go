package wal

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	tidwall "github.com/tidwall/wal"
	"github.com/weirmq/weir/storage/weir"
)

const (
	// scratchKeep is the largest frame that a writer keeps memory for.
	scratchKeep = 1 << 20

	// reopenAfter is how many segments a tidwall/wal log is used for: it keeps every
	// segment that it ever wrote in memory.
	reopenAfter = 256
)

// writer appends to one lane of the current buffer. The lock is held from the first byte
// written to the last sync. Only Append and the change of buffers take it.
//
// Only the writing half of tidwall/wal is used, with its own sync turned off: it would
// sync, read and truncate under one lock. The writer does what is missing: it syncs
// through a file descriptor that was opened before the first write, so that it gets every
// error; it syncs the directory when a segment is new; and it adds checksums.
type writer struct {
	mu          sync.Mutex
	disk        *disk
	segmentSize int
	closed      bool

	number  weir.Lane
	newest  *newest
	lane    *lane
	log     *tidwall.Log // nil before the first append
	tail    *os.File     // the segment that log writes to
	index   uint64       // of the newest entry
	size    int          // of the tail segment, in bytes
	rolled  int          // segments begun since log was opened
	scratch []byte
	batch   tidwall.Batch
}

// create makes the lane's directory, marks file and first segment. All of it is durable
// on return.
func (w *writer) create() error {
	if err := w.disk.mkdir(w.lane.dir); err != nil {
		return err
	}
	if err := w.lane.marks.open(w.disk, w.lane.dir, w.lane.salt); err != nil {
		return err
	}
	w.index, w.size = 0, 0
	if err := w.open(); err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	if err := w.newest.begin(w.number); err != nil {
		return fmt.Errorf("write counter: %w", err)
	}
	return nil
}

// open opens the lane's directory with tidwall/wal.
func (w *writer) open() error {
	w.rolled = 0
	return w.disk.do(stepSegment, w.lane.dir, func() (err error) {
		w.log, err = tidwall.Open(w.lane.dir, &tidwall.Options{
			NoSync:           true,
			SegmentSize:      w.segmentSize,
			SegmentCacheSize: 1,
			NoCopy:           true,
			AllowEmpty:       true,
		})
		return err
	})
}

// begin opens the segment that tidwall/wal has just created, and makes its name durable.
func (w *writer) begin() error {
	name := segmentName(w.index + 1)
	f, err := os.OpenFile(filepath.Join(w.lane.dir, name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if w.tail != nil {
		w.tail.Close()
	}
	w.tail, w.size = f, 0
	if err := w.disk.syncDir(w.lane.dir); err != nil {
		return err
	}
	la := w.lane
	la.mu.Lock()
	la.segs = append(la.segs, segment{index: w.index + 1, name: name, first: la.last + 1})
	la.mu.Unlock()
	return nil
}

// frame encodes a batch that begins at a sequence. The result is valid until the next
// call.
func (w *writer) frame(first uint64, recs []Record) []byte {
	p := appendRecords(openFrame(w.scratch[:0]), recs)
	sealFrame(p, 0, w.lane.salt, kindRecords, first, uint32(len(recs)))
	w.scratch = p
	return p
}

// append writes a frame that ends with sequence last, and returns how many bytes it took;
// durable on return. After an error nothing is known about the frame, and the writer must
// not be used again before it has a new buffer.
//
// A crash after the write leaves all or part of a frame that was never acknowledged. A
// crash after the sync leaves the whole frame, perhaps with an older high-water mark. In
// both cases Open finds where the lane ends.
func (w *writer) append(frame []byte, last uint64) (int64, error) {
	if w.log == nil {
		if err := w.create(); err != nil {
			return 0, fmt.Errorf("create segment: %w", err)
		}
	}
	path := w.tail.Name()
	w.batch.Clear()
	w.batch.Write(w.index+1, frame)
	err := w.disk.do(stepWrite, path, func() error { return w.log.WriteBatch(&w.batch) })
	if len(frame) > scratchKeep {
		w.scratch, w.batch = nil, tidwall.Batch{}
	}
	if err != nil {
		return 0, fmt.Errorf("write segment: %w", err)
	}
	n := len(binary.AppendUvarint(nil, uint64(len(frame)))) + len(frame)
	w.index++
	w.size += n
	// The sync comes first even if tidwall/wal has synced a full segment itself: it
	// reports the errors that this descriptor has missed, and costs nothing then.
	if err := w.disk.do(stepSync, path, func() error { return dataSync(w.tail) }); err != nil {
		return 0, fmt.Errorf("sync segment: %w", err)
	}
	err = w.lane.marks.write(func(m *mark) { m.high, m.boot = last, w.disk.boot })
	if err != nil {
		return 0, fmt.Errorf("write high-water mark: %w", err)
	}
	if err := w.newest.wrote(w.number, last); err != nil {
		return 0, fmt.Errorf("write the latest sequences: %w", err)
	}
	la := w.lane
	la.mu.Lock()
	la.segs[len(la.segs)-1].size += int64(n)
	la.last = last
	la.mu.Unlock()
	return int64(n), nil
}

// roll takes over the segment that tidwall/wal has begun behind the last append, if it
// has. After an error that append is durable all the same, but the writer must not append
// again.
func (w *writer) roll() error {
	if w.size < w.segmentSize {
		return nil
	}
	if err := w.lane.marks.set(func(*mark) {}); err != nil {
		return fmt.Errorf("sync high-water mark: %w", err)
	}
	if err := w.begin(); err != nil {
		return fmt.Errorf("begin segment: %w", err)
	}
	if w.rolled++; w.rolled < reopenAfter {
		return w.log.ClearCache()
	}
	if err := w.log.Close(); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	if err := w.open(); err != nil {
		return fmt.Errorf("reopen log: %w", err)
	}
	return nil
}

// close closes the files. Everything acknowledged is durable already.
func (w *writer) close() {
	if w.log != nil {
		// After a failed write the close fails too. Its error adds nothing.
		_ = w.log.Close()
	}
	if w.tail != nil {
		w.tail.Close()
	}
	w.log, w.tail, w.lane = nil, nil, nil
}
