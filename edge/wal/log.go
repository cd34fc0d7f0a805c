package wal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/storage/weir"
)

// Log is the buffer of one gateway. Its methods may be called from several goroutines.
// Appends to one lane wait for each other, and so do reads and trims of one lane.
// Nothing else waits for the disk.
//
// Locks are taken in this order: writers, lane by lane; readers, lane by lane;
// mu; then those inside buffers and lanes.
type Log struct {
	opts    Options
	disk    *disk
	lock    *os.File
	notify  chan struct{}
	used    atomic.Int64 // bytes in segments, and those reserved by appends under way
	broken  atomic.Bool  // a write failed: no append until there is a new buffer
	writers [weir.Lanes]writer
	readers [weir.Lanes]reader
	dead    dead
	letters Letters
	newest  newest

	failures failures
	ended    ended

	mu      sync.RWMutex
	closed  bool
	highest uint32    // highest counter of any buffer ever seen; guarded by all writers' locks
	buffers []*buffer // oldest first, the current one last
	current *buffer
	retired retired
	unread  []endedBuffer // buffers on the disk that cannot be read, as the files beside the buffers describe them
}

const (
	lockName    = "lock"
	buffersName = "buffers"
	retiredName = "retired"
	deadName    = "dead"
	lettersName = "refused"
)

func (l *Log) buffersDir() string { return filepath.Join(l.opts.Dir, buffersName) }

// Open opens the buffer directory, reads what an earlier process left there, and begins
// a new buffer, whose id is durable on return. It succeeds whatever the files look like:
// damage becomes gaps. It fails only if the directory cannot be written, or if another
// process has it open (ErrLocked).
func Open(o Options) (*Log, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	l := &Log{opts: o, notify: make(chan struct{}, 1)}
	l.disk = &l.opts.disk
	l.dead = dead{log: o.Log, quota: o.DeadQuota,
		files: letterFiles{disk: l.disk, dir: filepath.Join(o.Dir, deadName), part: partDead, kind: kindDead}}
	l.letters = Letters{log: o.Log, quota: o.LetterQuota, perClient: o.ClientLetters,
		files: letterFiles{disk: l.disk, dir: filepath.Join(o.Dir, lettersName), part: partLetters, kind: kindLetters}}
	for i := range l.writers {
		w := &l.writers[i]
		w.disk, w.segmentSize, w.number, w.newest = l.disk, o.SegmentSize, weir.Lane(i), &l.newest
	}
	if err := l.open(); err != nil {
		l.newest.close()
		if l.lock != nil {
			l.lock.Close()
		}
		if errors.Is(err, ErrLocked) {
			return nil, fmt.Errorf("buffer directory %s is %w", o.Dir, err)
		}
		return nil, fmt.Errorf("buffer directory %s is not usable: %w", o.Dir, err)
	}
	return l, nil
}

func (l *Log) open() (err error) {
	if err = l.mkdirAll(l.opts.Dir); err != nil {
		return err
	}
	if l.lock, err = lockFile(filepath.Join(l.opts.Dir, lockName)); err != nil {
		return err
	}
	if err = l.disk.mkdir(l.buffersDir()); err != nil {
		return err
	}
	h, err := l.newest.open(l.disk, l.opts.Dir)
	if err != nil {
		return err
	}
	if err = l.ended.open(l.disk, l.opts.Dir, l.opts.Log); err != nil {
		return err
	}
	if err = l.retired.open(l.disk, filepath.Join(l.opts.Dir, retiredName), l.opts.Log); err != nil {
		return err
	}
	if l.opts.Used {
		if h, err = l.missAll(h); err != nil {
			return err
		}
	}
	if err = l.loadBuffers(h); err != nil {
		return err
	}
	l.noteEnds()
	return l.begin()
}

// mkdirAll creates the directory and those above it that are missing, each
// durably.
func (l *Log) mkdirAll(path string) error {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := l.mkdirAll(parent); err != nil {
			return err
		}
	}
	return l.disk.mkdir(path)
}

// loadBuffers loads the buffers of earlier opens, missing ones included. A problem with
// one of them does not affect the others or the new one.
func (l *Log) loadBuffers(h heard) error {
	entries, err := os.ReadDir(l.buffersDir())
	if err != nil {
		return err
	}
	there := map[weir.BufferID]bool{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, goneSuffix) {
			if err := os.RemoveAll(filepath.Join(l.buffersDir(), name)); err != nil {
				l.opts.Log.Warn("retired buffer not removed: trying again at the next start", "file", name, "err", err)
			}
			continue
		}
		id, ok := parseBufferName(name)
		if !ok {
			l.opts.Log.Warn("unexpected file in the directory of buffers: it is ignored", "file", name)
			continue
		}
		there[id] = true
		l.highest = max(l.highest, id.Counter())
		l.loadBuffer(id, h)
	}
	for _, id := range l.missing(h, there) {
		l.opts.Log.Error("the directory of a buffer is missing: its records are reported as lost unless the cloud has them", "buffer", id)
		l.loadBuffer(id, h)
	}
	l.highest = max(l.highest, l.retired.highest(), h.id.Counter(), h.latest.id.Counter())
	slices.SortFunc(l.buffers, func(a, b *buffer) int { return bytes.Compare(a.id[:], b.id[:]) })
	return nil
}

// missAll draws an id for what was in a directory that is empty now, as a buffer of which
// all lanes are gone. The reported id is not that of the lost records, which nothing
// knows.
func (l *Log) missAll(h heard) (heard, error) {
	entries, err := os.ReadDir(l.buffersDir())
	if err != nil || len(entries) > 0 || h != (heard{}) || len(l.ended.known) > 0 || len(l.retired.known) > 0 {
		return h, err
	}
	l.opts.Log.Error("the local log is missing: records that the cloud does not have are lost", "dir", l.opts.Dir)
	id, err := newID(1)
	if err != nil {
		return h, err
	}
	return heard{id: id, begun: 1<<weir.Lanes - 1}, nil
}

// missing returns the buffers that must be on the disk and are not: those that ended and
// were not retired, and the newest if something was stored in it.
func (l *Log) missing(h heard, there map[weir.BufferID]bool) []weir.BufferID {
	var ids []weir.BufferID
	for _, b := range l.ended.sorted() {
		ids = append(ids, b.id)
		l.highest = max(l.highest, b.id.Counter())
	}
	if h.begun != 0 {
		ids = append(ids, h.id)
	}
	if h.latest.last != [weir.Lanes]uint64{} {
		ids = append(ids, h.latest.id)
	}
	slices.SortFunc(ids, func(a, b weir.BufferID) int { return bytes.Compare(a[:], b[:]) })
	return slices.DeleteFunc(slices.Compact(ids), func(id weir.BufferID) bool {
		_, retired := l.retired.last(id)
		return retired || there[id]
	})
}

func (l *Log) loadBuffer(id weir.BufferID, h heard) {
	b := l.newBuffer(id)
	if _, ok := l.retired.last(id); ok {
		l.discard(b)
		return
	}
	said := func(ln weir.Lane) witness { return l.witness(h, id, ln) }
	if err := b.load(said); err != nil {
		l.unread = append(l.unread, saidEnd(id, said))
		l.opts.Log.Error("a buffer cannot be read: it is left as it is and read again at the next start", "buffer", id, "err", err)
		return
	}
	if b.empty() {
		l.discard(b)
		return
	}
	for i := range b.lanes {
		la := &b.lanes[i]
		if la.lost != "" && la.last > la.acked {
			l.opts.Log.Error("records of a buffer are lost: they are reported unless the cloud has them", "dir", la.dir,
				"reason", la.lost, "first", la.acked+1, "last", la.last, "certain_to", la.firm)
		}
		if la.sealed {
			continue
		}
		if err := la.seal(); err != nil {
			l.opts.Log.Warn("the end of a buffer is not written: the next start finds it again",
				"dir", la.dir, "err", err)
		}
	}
	l.used.Add(b.bytes())
	l.buffers = append(l.buffers, b)
	l.opts.Log.Info("a buffer of an earlier start is there: its records are delivered first", "buffer", id, "bytes", b.bytes())
}

// noteEnds sets the list of ended buffers to what was found. The list only backs up
// other files, so it is no error if the disk refuses it.
func (l *Log) noteEnds() {
	all := slices.Clone(l.unread)
	for _, b := range l.buffers {
		all = append(all, b.end())
	}
	if err := l.ended.replace(all); err != nil {
		l.opts.Log.Warn("list of ended buffers not written: the buffers' own files say the same", "err", err)
	}
}

// discard removes a buffer that is not needed any more. What an error leaves of it is
// removed at the next start.
func (l *Log) discard(b *buffer) {
	if err := b.remove(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.opts.Log.Warn("delivered buffer not removed: trying again at the next start", "buffer", b.id, "err", err)
	}
}

// newID draws the random part of an id.
func newID(counter uint32) (id weir.BufferID, err error) {
	binary.BigEndian.PutUint32(id[:], counter)
	_, err = rand.Read(id[4:])
	return id, err
}

// begin draws an id and makes a new buffer of it the current one. The id is durable on
// return. The first append makes the directory. A crash in between leaves a counter that
// is not used.
func (l *Log) begin() error {
	if l.highest == math.MaxUint32 {
		return errors.New("the counter of buffers is used up")
	}
	id, err := newID(l.highest + 1)
	if err != nil {
		return err
	}
	if err := l.newest.draw(id); err != nil {
		return err
	}
	if err := l.disk.syncDir(l.opts.Dir); err != nil {
		return err
	}
	b := l.newBuffer(id)
	for i := range b.lanes {
		la := &b.lanes[i]
		if err := la.gaps.open(l.disk, la.dir, la.salt); err != nil {
			return err
		}
		l.writers[i].lane = la
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.highest++
	l.current = b
	l.buffers = append(l.buffers, b)
	return nil
}

// buffer returns the buffer with this id.
func (l *Log) buffer(id weir.BufferID) (*buffer, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, ErrClosed
	}
	for _, b := range l.buffers {
		if b.id == id {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%w %v", ErrUnknown, id)
}

// Current returns the id of the buffer that records are appended to.
func (l *Log) Current() weir.BufferID {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.current.id
}

// Next returns the sequence that the next record of the lane gets in the current buffer.
// It is useful only to a caller that is the only one to append.
func (l *Log) Next(ln weir.Lane) uint64 {
	_, seq := l.Position(ln)
	return seq
}

// Position returns where the next record of the lane goes. Unless the caller is the only
// one to append, it may be out of date on return; AppendAt then returns ErrMoved. It
// panics if there is no such lane.
func (l *Log) Position(ln weir.Lane) (id weir.BufferID, seq uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	_, last, _ := l.current.lanes[ln].bounds()
	return l.current.id, last + 1
}

// Stored reports whether a record is durable, or was: it may be delivered by now. This is
// known for every buffer on the disk, trimmed or not, and for the newest 256 that were
// retired.
func (l *Log) Stored(id weir.BufferID, ln weir.Lane, seq uint64) bool {
	if ln >= weir.Lanes {
		return false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, b := range l.buffers {
		if b.id == id {
			_, last, firm := b.lanes[ln].bounds()
			if firm == 0 {
				firm = last // a guess of an earlier version, which did not store firm
			}
			return seq <= firm
		}
	}
	last, _ := l.retired.last(id)
	return seq <= last[ln]
}

// Last returns the newest durable sequence of a buffer's lane; 0 if there is none or
// nothing is known about the buffer. It is known for every buffer on the disk, trimmed
// or not, and for the newest 256 that were retired.
func (l *Log) Last(id weir.BufferID, ln weir.Lane) uint64 {
	if ln >= weir.Lanes {
		return 0
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, b := range l.buffers {
		if b.id == id {
			_, last, _ := b.lanes[ln].bounds()
			return last
		}
	}
	last, _ := l.retired.last(id)
	return last[ln]
}

// Buffers lists the buffers on the disk, oldest first; the current one is last.
func (l *Log) Buffers() []weir.Buffer {
	l.mu.RLock()
	defer l.mu.RUnlock()
	infos := make([]weir.Buffer, len(l.buffers))
	for i, b := range l.buffers {
		infos[i] = weir.Buffer{ID: b.id, Current: b == l.current}
		for j := range b.lanes {
			acked, last, _ := b.lanes[j].bounds()
			infos[i].Lanes[j] = weir.Bounds{First: acked + 1, Last: last}
		}
	}
	return infos
}

// Notify returns a channel that receives when something new can be read. It holds one
// value, so that no notice is lost and no sender blocks.
func (l *Log) Notify() <-chan struct{} { return l.notify }

func (l *Log) tell() {
	select {
	case l.notify <- struct{}{}:
	default:
	}
}

// Close seals the current buffer and releases the directory. It waits for the appends
// and reads that are under way.
func (l *Log) Close() error {
	for i := range l.writers {
		l.writers[i].mu.Lock()
		defer l.writers[i].mu.Unlock()
	}
	for i := range l.readers {
		l.readers[i].mu.Lock()
		defer l.readers[i].mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	for i := range l.writers {
		l.writers[i].closed = true
	}
	var failed error
	if err := l.endBuffer(); err != nil {
		failed = fmt.Errorf("seal buffer %v: %w", l.current.id, err)
	}
	for i := range l.readers {
		l.readers[i].forget()
	}
	for _, b := range l.buffers {
		for i := range b.lanes {
			b.lanes[i].marks.close()
		}
	}
	l.dead.close()
	l.letters.close()
	l.newest.close()
	l.lock.Close()
	return failed
}
