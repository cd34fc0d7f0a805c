package mqtt

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/weirmq/weir/storage/durable"
)

// The files of what is owed (FORMAT.md).
const (
	owedMagic   = "weirowe\x01"
	owedHeader  = len(owedMagic) + saltSize
	owedFrame   = 4 + 4 + 8 // length, checksum, number
	saltSize    = 8
	segmentSize = 1 << 20
	minSegments = 8       // into which the limit is cut at least
	maxOwedBuf  = 1 << 20 // the largest buffer that is kept for the next append
	maxHole     = 1 << 20 // records that are missing in one place of a file
)

// OwedLog keeps the messages that persistent sessions are owed: each once, in
// files of a megabyte. A file goes when every session has what it is owed of
// it. One process may use a directory at a time. The committer appends, cuts
// and removes; sessions read.
type OwedLog struct {
	dir   string
	limit int64 // bytes of all files
	size  int64 // at which a file is full
	log   *slog.Logger

	file   *os.File // of the last segment, nil: not made yet; the committer's
	owner  *segment // of which file is
	failed bool     // what the file ends with is unknown; the committer's
	buf    []byte   // for append, which uses it again

	mu       sync.Mutex
	segments []*segment      // guarded by mu; oldest first
	void     map[uint64]bool // records that nobody is owed; does not change after start
	next     uint64          // guarded by mu; number of the next record, from 1
}

// segment is one file.
type segment struct {
	first    uint64 // number of its first record
	salt     [saltSize]byte
	size     int64          // bytes that are durable
	owed     map[uint32]int // deliveries that are owed, by session number
	full     bool           // nothing is appended any more
	removing bool           // its end is being written to the state
}

// OpenOwed opens or creates the directory. limit bounds the bytes of all
// files: when they are more, the oldest messages are dropped.
func OpenOwed(dir string, limit int64, log *slog.Logger) (*OwedLog, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of what is owed to sessions: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return nil, fmt.Errorf("create the directory of what is owed to sessions: %w", err)
	}
	return &OwedLog{dir: dir, limit: limit, size: min(segmentSize, max(1, limit/minSegments)), log: log, next: 1}, nil
}

func (l *OwedLog) path(first uint64) string {
	return filepath.Join(l.dir, fmt.Sprintf("%020d", first))
}

// known is what the state file says about the files: those that there must be,
// and the last number that was certainly written.
type known struct {
	segments map[uint64]knownSegment // by first number
	last     uint64
}

type knownSegment struct {
	end  uint64 // number that follows the last record; 0: it was not full
	salt [saltSize]byte
}

// load reads all files and calls fn with every record. What is missing is
// logged and counted: it returns how many records, at least.
func (l *OwedLog) load(k known, fn func(s *segment, number uint64, body []byte)) (lost uint64, err error) {
	firsts, err := l.list(k)
	if err != nil {
		return 0, err
	}
	for first := range k.segments {
		if !slices.Contains(firsts, first) {
			firsts = append(firsts, first) // its file is gone
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

// list returns the first numbers of the files, and removes those whose end the
// state file has: a crash came before they were removed.
func (l *OwedLog) list(k known) (firsts []uint64, err error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("list what is owed to sessions: %w", err)
	}
	for _, e := range entries {
		first, err := strconv.ParseUint(e.Name(), 10, 64)
		if err != nil || len(e.Name()) != 20 {
			continue
		}
		if _, there := k.segments[first]; !there && first <= k.last {
			if err := os.Remove(l.path(first)); err != nil {
				return nil, fmt.Errorf("remove what is owed to nobody: %w", err)
			}
			continue
		}
		firsts = append(firsts, first)
	}
	return firsts, nil
}

// loadSegment reads one file, of which the numbers up to end, exclusive, are
// expected; 0: nobody knows.
func (l *OwedLog) loadSegment(first, end uint64, k known, fn func(*segment, uint64, []byte)) (lost uint64, err error) {
	p, err := os.ReadFile(l.path(first))
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return 0, fmt.Errorf("read what is owed to sessions: %w", err)
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
			at++ // damage, or the end that a crash tore
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

// hole reports the records from number next up to number end, exclusive, which
// are not there.
func (l *OwedLog) hole(next, end uint64) uint64 {
	if end <= next {
		return 0
	}
	l.log.Error("messages that sessions were owed are missing: a file is damaged or gone",
		"dir", l.dir, "first", next, "last", end-1)
	return end - next
}

// readOwed reads the frame at the start of p, whose number must be at least
// next.
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

// owedSum is the checksum of a frame: of the file's salt, the length, the
// number and the body.
func owedSum(frame []byte, salt [saltSize]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Checksum(salt[:], table)
	sum = crc32.Update(sum, table, frame[:4])
	return crc32.Update(sum, table, frame[8:])
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

// last is the number of the newest record.
func (l *OwedLog) last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// open returns the segment that takes the next records, and whether it is a
// new one, which the state file must know before they count.
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

// append writes records behind the last one and syncs them: they are durable
// when it returns nil. On an error none of them is there, or the log is
// unusable until cut has succeeded.
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
		return errors.Join(fmt.Errorf("write what is owed to sessions: %w", err), l.cut())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.size += int64(len(b))
	l.next += uint64(len(records))
	return nil
}

// create makes the file of a new segment, and returns the bytes that it
// begins with.
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
		return nil, fmt.Errorf("create a file for what is owed to sessions: %w", err)
	}
	if err := durable.SyncDir(l.dir); err != nil {
		return nil, fmt.Errorf("create a file for what is owed to sessions: %w", err)
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
		return fmt.Errorf("cut off what is not owed to sessions: %w", err)
	}
	l.failed = false
	return nil
}

// undo takes back the last append, of so many records from a size on: the
// messages were not stored.
func (l *OwedLog) undo(s *segment, size int64, records int) error {
	l.mu.Lock()
	l.next -= uint64(records)
	s.size = size
	l.mu.Unlock()
	l.failed = true
	return l.cut()
}

// Close ends the use of the directory. Everything appended is durable already.
func (l *OwedLog) Close() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
