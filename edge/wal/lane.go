package wal

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// lane is one lane of one buffer: its files and its bounds. The open segment, which only
// the current buffer has, is in writer.
type lane struct {
	disk *disk
	log  *slog.Logger
	dir  string
	salt salt

	marks marks
	gaps  gaps // guarded by the reader's lock

	// behind says that a step failed, so the files do not show yet what was trimmed.
	// behind and written are guarded by the reader's lock.
	behind  bool
	written time.Time // when acked was last written to marks

	// sealed says that the end of the lane is on the disk, or that the lane has no
	// directory. Only Open writes it.
	sealed bool

	// lost says which of the lane's files Open found missing, for the gap that reports
	// it; empty: none.
	lost string

	// front is the acknowledged position when the lane was opened. If loose is set,
	// records missing behind it may have been delivered.
	front uint64
	loose bool

	mu    sync.Mutex
	segs  []segment // oldest first
	last  uint64    // newest durable sequence
	acked uint64    // all records up to this one are delivered
	guess bool      // last is a guess
	firm  uint64    // if guess: up to here there certainly were records
}

// segment is one file of tidwall/wal.
type segment struct {
	index uint64 // of its first entry, as tidwall/wal counts
	name  string
	size  int64
	first uint64 // sequence of the first frame that begins in it or later; 0: not known yet
}

// segmentName returns the name that tidwall/wal gives to a segment that begins with an
// index.
func segmentName(index uint64) string {
	s := strconv.FormatUint(index, 10)
	return strings.Repeat("0", 20-len(s)) + s
}

// parseSegment parses a file name. It accepts what tidwall/wal leaves behind when it is
// interrupted while it truncates (.START, .END): frames that such a file repeats are
// recognized by their sequence.
func parseSegment(name string) (index uint64, ok bool) {
	digits := strings.TrimSuffix(strings.TrimSuffix(name, ".START"), ".END")
	if len(digits) != 20 {
		return 0, false
	}
	index, err := strconv.ParseUint(digits, 10, 64)
	return index, err == nil && index > 0
}

// listSegments returns the segments in a directory, which need not exist.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var segs []segment
	for _, e := range entries {
		index, ok := parseSegment(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		st, err := e.Info()
		if err != nil {
			return nil, err
		}
		segs = append(segs, segment{index: index, name: e.Name(), size: st.Size()})
	}
	return segs, nil
}

// relist updates the list of segments from the directory, and returns by how many bytes
// it grew.
func (la *lane) relist() (int64, error) {
	segs, err := listSegments(la.dir)
	if err != nil {
		return 0, err
	}
	la.mu.Lock()
	defer la.mu.Unlock()
	for i := range segs {
		if j, found := indexOf(la.segs, segs[i].name); found {
			segs[i].first = la.segs[j].first
		}
	}
	more := sizeOf(segs) - sizeOf(la.segs)
	la.segs = segs
	return more, nil
}

// bounds returns the acknowledged position, the last sequence, and the sequence up to
// which there certainly were records. The latter is less than last if last is a guess.
func (la *lane) bounds() (acked, last, firm uint64) {
	la.mu.Lock()
	defer la.mu.Unlock()
	if la.guess {
		return la.acked, la.last, la.firm
	}
	return la.acked, la.last, la.last
}

// bytes returns how many bytes the segments take on the disk.
func (la *lane) bytes() int64 {
	la.mu.Lock()
	defer la.mu.Unlock()
	return sizeOf(la.segs)
}

func sizeOf(segs []segment) int64 {
	var n int64
	for _, s := range segs {
		n += s.size
	}
	return n
}

// never is a sequence that no record has.
const never = ^uint64(0)

// segment returns the i-th oldest segment.
func (la *lane) segment(i int) (segment, bool) {
	la.mu.Lock()
	defer la.mu.Unlock()
	if i < 0 || i >= len(la.segs) {
		return segment{}, false
	}
	return la.segs[i], true
}

// indexOf returns the index of the segment with this name or, if that has been freed,
// of the one behind it.
func (la *lane) indexOf(name string) (i int, found bool) {
	la.mu.Lock()
	defer la.mu.Unlock()
	return indexOf(la.segs, name)
}

func indexOf(segs []segment, name string) (i int, found bool) {
	return slices.BinarySearchFunc(segs, name, func(s segment, name string) int {
		return strings.Compare(s.name, name)
	})
}

// search returns the newest segment that begins at or before a sequence: if any segment
// holds the sequence, this one does.
func (la *lane) search(seq uint64) (int, error) {
	la.mu.Lock()
	n := len(la.segs)
	la.mu.Unlock()
	var failed error
	i := sort.Search(n, func(i int) bool {
		first, err := la.firstOf(i)
		if err != nil {
			failed = err
		}
		return first > seq
	})
	return max(0, i-1), failed
}

// firstOf returns the sequence of the first frame that begins in segment i or later;
// never if there is none.
func (la *lane) firstOf(i int) (uint64, error) {
	for ; ; i++ {
		s, ok := la.segment(i)
		if !ok {
			return never, nil
		}
		if s.first == 0 {
			var err error
			if s.first, err = la.probe(s.name); err != nil {
				return 0, err
			}
		}
		if s.first != never {
			la.learn(s.name, s.first)
			return s.first, nil
		}
	}
}

// learn remembers where a segment begins.
func (la *lane) learn(name string, first uint64) {
	la.mu.Lock()
	defer la.mu.Unlock()
	if i, found := indexOf(la.segs, name); found {
		la.segs[i].first = first
	}
}

// probe reads the first frame header of a segment.
func (la *lane) probe(name string) (uint64, error) {
	w := window{size: blockSize}
	if err := w.open(filepath.Join(la.dir, name)); err != nil {
		if unreadable(err) {
			return never, nil
		}
		return 0, err
	}
	defer w.close()
	h, _, ok, err := findHeader(&w, la.salt, 0)
	if err != nil {
		return 0, err
	}
	if !ok {
		return never, nil
	}
	return h.first, nil
}
