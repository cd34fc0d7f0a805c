package mqtt

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/durable"
)

// Files of what is owed (FORMAT.md).
const (
	owedMagic   = "weirowe\x01"
	owedHeader  = len(owedMagic) + saltSize
	owedFrame   = 4 + 4 + 8 // length, checksum, number
	saltSize    = 8
	segmentSize = 1 << 20
	minSegments = 8       // the limit is divided into at least this many files
	maxOwedBuf  = 1 << 20 // the largest buffer that is kept for the next append
	maxHole     = 1 << 20 // most records that may be missing in one place of a file
)

// OwedLog keeps the messages that persistent sessions are owed. Each message is stored once,
// in files of a megabyte. A file is removed when every session has got what it was owed of
// the file. One process may use a directory at a time. The committer appends, cuts and
// removes; sessions read.
type OwedLog struct {
	dir   string
	limit int64 // bytes of all files
	size  int64 // a file is full at this size
	log   *slog.Logger

	file   *os.File // of the last segment, nil: not created yet; the committer's
	owner  *segment // the segment of file
	failed bool     // it is unknown what the file ends with; the committer's
	buf    []byte   // reused by append

	mu       sync.Mutex
	segments []*segment      // guarded by mu; oldest first
	void     map[uint64]bool // records that no session is owed; does not change after start
	next     uint64          // guarded by mu; number of the next record, from 1
}

// segment is one file.
type segment struct {
	first    uint64 // number of its first record
	salt     [saltSize]byte
	size     int64          // bytes that are durable
	owed     map[uint32]int // deliveries that are owed, by session number
	full     bool           // nothing more is appended
	removing bool           // its end is being written to the state
}

// OpenOwed opens or creates the directory. limit is the largest size of all files together,
// in bytes: above it the oldest messages are dropped.
func OpenOwed(dir string, limit int64, log *slog.Logger) (*OwedLog, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of messages for sessions: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return nil, fmt.Errorf("create the directory of messages for sessions: %w", err)
	}
	return &OwedLog{dir: dir, limit: limit, size: min(segmentSize, max(1, limit/minSegments)), log: log, next: 1}, nil
}

func (l *OwedLog) path(first uint64) string {
	return filepath.Join(l.dir, fmt.Sprintf("%020d", first))
}

// known is what the state file says about the files: which must exist, and the last number
// that was certainly written.
type known struct {
	segments map[uint64]knownSegment // by first number
	last     uint64
}

type knownSegment struct {
	end  uint64 // number after that of the last record; 0: the file was not full
	salt [saltSize]byte
}

// load reads all files and calls fn with every record. Missing records are logged and
// counted: it returns how many, at least.
func (l *OwedLog) load(k known, fn func(s *segment, number uint64, body []byte)) (lost uint64, err error) {
	firsts, err := l.list(k)
	if err != nil {
		return 0, err
	}
	for first := range k.segments {
		if !slices.Contains(firsts, first) {
			firsts = append(firsts, first) // the file is missing
		}
	}
	slices.Sort(firsts)
	for i, first := range firsts {
		end := k.segments[first].end
		if end == 0 && i == len(firsts)-1 {
			end = k.last + 1
		}
		n, err := l.loadSegment(first, end, k, fn)
		if err != nil {
			return lost, err
		}
		lost += n
	}
	l.next = max(l.next, k.last+1)
	return lost, nil
}

// list returns the first numbers of the files. It removes files whose end is in the state
// file: a crash came before they were removed.
func (l *OwedLog) list(k known) (firsts []uint64, err error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("list messages for sessions: %w", err)
	}
	for _, e := range entries {
		first, err := strconv.ParseUint(e.Name(), 10, 64)
		if err != nil || len(e.Name()) != 20 {
			continue
		}
		if _, there := k.segments[first]; !there && first <= k.last {
			if err := os.Remove(l.path(first)); err != nil {
				return nil, fmt.Errorf("remove messages that no session waits for: %w", err)
			}
			continue
		}
		firsts = append(firsts, first)
	}
	return firsts, nil
}

// loadSegment reads one file. It is expected to have the numbers up to end, exclusive; 0: the
// end is not known.
func (l *OwedLog) loadSegment(first, end uint64, k known, fn func(*segment, uint64, []byte)) (lost uint64, err error) {
	p, err := os.ReadFile(l.path(first))
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return 0, fmt.Errorf("read messages for sessions: %w", err)
	}
	s := &segment{first: first, size: int64(len(p)), owed: make(map[uint32]int), full: true}
	if is, sure := k.segments[first]; sure {
		s.salt = is.salt
	} else if len(p) >= owedHeader {
		copy(s.salt[:], p[len(owedMagic):])
	}
	next := first
	for at := owedHeader; at < len(p); {
		number, body, ok := readOwed(p[at:], s.salt, next)
		if !ok {
			at++ // damage, or an end that a crash left incomplete
			continue
		}
		lost += l.hole(next, number)
		fn(s, number, body)
		next, at = number+1, at+owedFrame+len(body)
	}
	lost += l.hole(next, end)
	l.next = max(l.next, next)
	if !missing {
		l.segments = append(l.segments, s)
	}
	return lost, nil
}

// hole reports that the records from number next up to number end, exclusive, are missing.
func (l *OwedLog) hole(next, end uint64) uint64 {
	if end <= next {
		return 0
	}
	l.log.Error("stored messages for sessions are missing: a file is damaged or deleted",
		"dir", l.dir, "first", next, "last", end-1)
	return end - next
}

// readOwed reads the frame at the start of p. Its number must be at least next.
func readOwed(p []byte, salt [saltSize]byte, next uint64) (number uint64, body []byte, ok bool) {
	if len(p) < owedFrame {
		return 0, nil, false
	}
	if number = binary.LittleEndian.Uint64(p[8:]); number < next || number-next > maxHole {
		return 0, nil, false
	}
	n := int64(binary.LittleEndian.Uint32(p))
	if n == 0 || n > int64(len(p)-owedFrame) {
		return 0, nil, false
	}
	end := owedFrame + int(n)
	if owedSum(p[:end], salt) != binary.LittleEndian.Uint32(p[4:]) {
		return 0, nil, false
	}
	return number, p[owedFrame:end], true
}

// owedSum returns the checksum of a frame, over the file's salt, the length, the number and
// the body.
func owedSum(frame []byte, salt [saltSize]byte) uint32 {
	sum := crc.Sum(salt[:])
	sum = crc.Update(sum, frame[:4])
	return crc.Update(sum, frame[8:])
}

func appendOwed(b []byte, number uint64, body []byte, salt [saltSize]byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, number)
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b[at+4:], owedSum(b[at:], salt))
	return b
}

// last returns the number of the newest record.
func (l *OwedLog) last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// open returns the segment for the next records, and whether it is new: then it must be in
// the state file before the records count.
func (l *OwedLog) open() (s *segment, fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.segments); n > 0 && !l.segments[n-1].full {
		if s = l.segments[n-1]; s.size < l.size {
			return s, false
		}
		s.full = true
	}
	s = &segment{first: l.next, owed: make(map[uint32]int)}
	rand.Read(s.salt[:])
	l.segments = append(l.segments, s)
	return s, true
}

// append writes records behind the last one and syncs them: they are durable if it returns
// nil. After an error none of them is there, or the log is unusable until cut has succeeded.
func (l *OwedLog) append(s *segment, records [][]byte) error {
	if l.failed {
		if err := l.cut(); err != nil {
			return err
		}
	}
	b, err := l.create(s)
	if err != nil {
		return err
	}
	b = append(l.buf[:0], b...)
	for i, body := range records {
		b = appendOwed(b, l.next+uint64(i), body, s.salt)
	}
	if l.buf = b; cap(b) > maxOwedBuf {
		l.buf = nil
	}
	if _, err = l.file.WriteAt(b, s.size); err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.failed = true
		return errors.Join(fmt.Errorf("write messages for sessions: %w", err), l.cut())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.size += int64(len(b))
	l.next += uint64(len(records))
	return nil
}

// create creates the file of a new segment, and returns the bytes that the file begins with.
func (l *OwedLog) create(s *segment) ([]byte, error) {
	if s.size > 0 {
		return nil, nil
	}
	if l.file != nil {
		l.file.Close()
	}
	var err error
	if l.file, err = os.OpenFile(l.path(s.first), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		l.file = nil
		return nil, fmt.Errorf("create a file for messages for sessions: %w", err)
	}
	if err := durable.SyncDir(l.dir); err != nil {
		return nil, fmt.Errorf("create a file for messages for sessions: %w", err)
	}
	l.owner = s
	return append([]byte(owedMagic), s.salt[:]...), nil
}

// cut removes what was written behind the durable end of the file.
func (l *OwedLog) cut() error {
	err := l.file.Truncate(l.owner.size)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("cut off an unfinished write of messages for sessions: %w", err)
	}
	l.failed = false
	return nil
}

// undo removes the last append, of n records, because the messages were not stored.
func (l *OwedLog) undo(s *segment, size int64, records int) error {
	l.mu.Lock()
	l.next -= uint64(records)
	s.size = size
	l.mu.Unlock()
	l.failed = true
	return l.cut()
}

// Close closes the log. Everything appended is durable already.
func (l *OwedLog) Close() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
