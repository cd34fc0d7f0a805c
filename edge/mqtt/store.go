package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/durable"
)

// The state file: a header, then frames (FORMAT.md).
const (
	storeMagic   = "weirmqt"
	storeVersion = 2 // version 1 has fewer kinds of events
	storeHeader  = len(storeMagic) + 1
	frameHeader  = 8
	maxEvent     = 512 << 20 // a longer frame is not taken for an event
	maxResync    = 2 << 20   // nor is, after damage, a frame longer than this
)

// FileStore is a Store in one append-only file. Each event has its length and a CRC32C. Opening
// always succeeds: a torn or damaged part is skipped and reported, and everything else that can
// be read is kept. One process, and in it one goroutine, may use a file at a time.
type FileStore struct {
	path   string
	log    *slog.Logger
	file   *os.File
	loaded bool
	old    bool           // an earlier version wrote the file
	writer sync.WaitGroup // the goroutine that appends, while there is something to append

	// Owned by the writer while it runs.
	end      int64 // where the next frame goes
	poisoned bool

	mu      sync.Mutex
	writing bool          // guarded by mu; the writer runs
	waiting []func(error) // guarded by mu; of the calls of Append that are in buf
	buf     []byte        // guarded by mu; frames
	spare   []byte        // guarded by mu; the buffer that was written last, if it is not in use
}

// OpenStore opens or creates the state file. It fails if the directory cannot be written, or
// with ErrFormat.
func OpenStore(path string, log *slog.Logger) (*FileStore, error) {
	s := &FileStore{path: path, log: log}
	err := os.Remove(s.temporary())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove unfinished state file: %w", err)
	}
	s.file, err = os.OpenFile(path, os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		s.loaded = true
		return s, s.replace(func(io.Writer) error { return nil })
	}
	if err != nil {
		return nil, fmt.Errorf("open state file: %w", err)
	}
	var header [storeHeader]byte
	n, err := s.file.ReadAt(header[:], 0)
	if err != nil && err != io.EOF {
		s.file.Close()
		return nil, fmt.Errorf("read state file: %w", err)
	}
	if n == storeHeader && string(header[:len(storeMagic)]) == storeMagic && header[len(storeMagic)] > storeVersion {
		s.file.Close()
		return nil, fmt.Errorf("%s: %w: %d, this program knows %d", path, ErrFormat, header[len(storeMagic)], storeVersion)
	}
	return s, nil
}

func (s *FileStore) temporary() string { return s.path + ".new" }

// fileRange is a part of the file that consists of whole frames.
type fileRange struct{ from, to int64 }

// Load implements Store. It cuts off a torn tail, which a crash leaves. After damage in the
// middle it rewrites the file from its intact parts.
func (s *FileStore) Load(fn func(event []byte) error) error {
	if s.loaded {
		return nil
	}
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("load state file: %w", err)
	}
	spans, err := s.scan(info.Size(), fn)
	if err != nil {
		return err
	}
	s.loaded = true
	last := spans[len(spans)-1]
	s.end = last.to
	damaged := len(spans) > 1 || last.from != int64(storeHeader)
	if damaged {
		s.log.Error("the state file is damaged: some sessions, subscriptions or retained messages are lost", "file", s.path, "holes", max(1, len(spans)-1))
	}
	switch {
	case damaged || s.old:
		return s.replace(func(w io.Writer) error {
			for _, p := range spans {
				if _, err := io.Copy(w, io.NewSectionReader(s.file, p.from, p.to-p.from)); err != nil {
					return err
				}
			}
			return nil
		})
	case s.end < info.Size():
		s.log.Warn("the state file ended in the middle of a write: the end is cut off", "file", s.path, "bytes", info.Size()-s.end)
		if err := s.file.Truncate(s.end); err != nil {
			return fmt.Errorf("cut torn state file: %w", err)
		}
		if err := s.file.Sync(); err != nil {
			return fmt.Errorf("cut torn state file: %w", err)
		}
	}
	return nil
}

// scan calls fn with every readable event and returns where they lie. There is at least one
// range: from the header to the end if nothing is damaged.
func (s *FileStore) scan(size int64, fn func([]byte) error) ([]fileRange, error) {
	at := int64(storeHeader)
	var header [storeHeader]byte
	_, err := s.file.ReadAt(header[:], 0)
	version := header[len(storeMagic)]
	if err != nil || string(header[:len(storeMagic)]) != storeMagic || version == 0 || version > storeVersion {
		at = 0 // a frame may begin at any byte
	}
	s.old = version < storeVersion
	spans := []fileRange{{at, at}}
	r := bufio.NewReaderSize(io.NewSectionReader(s.file, at, max(0, size-at)), 64<<10)
	for at < size {
		p, err := s.readEvent(r, at, size)
		if err != nil && !errors.Is(err, errEvent) {
			return nil, fmt.Errorf("read state file at %d: %w", at, err)
		}
		if err != nil {
			next, err := s.resync(at+1, size)
			if err != nil {
				return nil, err
			}
			if next == size {
				break
			}
			at = next
			spans = append(spans, fileRange{at, at})
			r.Reset(io.NewSectionReader(s.file, at, size-at))
			continue
		}
		if err := fn(p); err != nil {
			return nil, err
		}
		at += int64(frameHeader + len(p))
		spans[len(spans)-1].to = at
	}
	if spans[0].from == spans[0].to && len(spans) > 1 && spans[0].from == 0 {
		spans = spans[1:]
	}
	return spans, nil
}

// readEvent reads the frame at the offset, at which r reads. It does not allocate a frame longer
// than any packet before the checksum is verified, so that a damaged length costs no memory.
func (s *FileStore) readEvent(r *bufio.Reader, at, size int64) ([]byte, error) {
	if header, err := r.Peek(frameHeader); err == nil {
		if n := int64(binary.LittleEndian.Uint32(header)); n > maxResync && n <= min(maxEvent, size-at-frameHeader) {
			sum := crc.New()
			sum.Write(header[:4])
			if _, err := io.Copy(sum, io.NewSectionReader(s.file, at+frameHeader, n)); err != nil {
				return nil, err
			}
			if sum.Sum32() != binary.LittleEndian.Uint32(header[4:]) {
				return nil, errEvent
			}
		}
	}
	return readEvent(r, size-at)
}

// readEvent reads one frame, of which at most left bytes are there. It returns errEvent if there
// is no frame.
func readEvent(r *bufio.Reader, left int64) ([]byte, error) {
	header, err := r.Peek(frameHeader)
	if err == io.EOF {
		return nil, errEvent
	}
	if err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(header))
	sum := binary.LittleEndian.Uint32(header[4:])
	if n == 0 || n > maxEvent || n > left-frameHeader {
		return nil, errEvent
	}
	frame := make([]byte, frameHeader+n)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	if frameSum(frame) != sum {
		return nil, errEvent
	}
	return frame[frameHeader:], nil
}

// resync returns where the next whole frame at or after from begins, or size if there is none.
func (s *FileStore) resync(from, size int64) (int64, error) {
	const window = 1 << 20
	buf := make([]byte, window+frameHeader)
	for at := from; at+frameHeader < size; at += window {
		n, err := s.file.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && err != io.EOF {
			return 0, fmt.Errorf("read state file at %d: %w", at, err)
		}
		for i := 0; i < window && i+frameHeader <= n; i++ {
			length := int64(binary.LittleEndian.Uint32(buf[i:]))
			start := at + int64(i)
			if length == 0 || length > maxResync || length > size-start-frameHeader {
				continue
			}
			if i+frameHeader < n && !eventKind(buf[i+frameHeader]).known() {
				continue
			}
			r := bufio.NewReaderSize(io.NewSectionReader(s.file, start, frameHeader+length), 4<<10)
			if _, err := readEvent(r, frameHeader+length); err == nil {
				return start, nil
			}
		}
	}
	return size, nil
}

// frameSum returns the CRC32C of a frame's length field and its event.
func frameSum(frame []byte) uint32 {
	return crc.Update(crc.Sum(frame[:4]), frame[frameHeader:])
}

// appendFrame appends the frame of one event to b.
func appendFrame(b, event []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(event)))
	b = append(b, 0, 0, 0, 0)
	b = append(b, event...)
	binary.LittleEndian.PutUint32(b[at+4:], frameSum(b[at:]))
	return b
}

// Append implements Store. The events of all calls that wait while the file is synced are
// written together, and synced once. After an error it is unknown what the file ends with:
// nothing is appended until the file is rewritten.
func (s *FileStore) Append(events [][]byte, done func(error)) {
	if err := s.usable(); err != nil {
		done(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range events {
		s.buf = appendFrame(s.buf, p)
	}
	s.waiting = append(s.waiting, done)
	if !s.writing {
		s.writing = true
		s.writer.Go(s.write)
	}
}

// write appends what waits, until nothing does.
func (s *FileStore) write() {
	for {
		s.mu.Lock()
		buf, waiting := s.buf, s.waiting
		if len(waiting) == 0 {
			s.writing = false
			s.mu.Unlock()
			return
		}
		s.buf, s.spare, s.waiting = s.spare[:0], nil, nil // each buffer has one owner
		s.mu.Unlock()
		err := s.append(buf)
		s.mu.Lock()
		if s.spare = buf; cap(buf) > maxPooledBuffer {
			s.spare = nil
		}
		s.mu.Unlock()
		for _, done := range waiting {
			done(err)
		}
	}
}

// append adds frames to the file, with one write and one fsync.
func (s *FileStore) append(frames []byte) error {
	if s.poisoned {
		return ErrPoisoned
	}
	if _, err := s.file.WriteAt(frames, s.end); err != nil {
		s.poisoned = true
		return fmt.Errorf("append state: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		s.poisoned = true
		return fmt.Errorf("sync state: %w", err)
	}
	s.end += int64(len(frames))
	return nil
}

func (s *FileStore) usable() error {
	if s.file == nil {
		return ErrClosed
	}
	if !s.loaded {
		return errors.New("state file is not loaded yet")
	}
	return nil
}

// Rewrite implements Store: it writes a new file beside the old one, and does fsync, rename, and
// fsync of the directory. A crash leaves one of the two files. If it fails before the rename, the
// old file stays in use. If it fails after, it is unknown which file a crash would leave: the
// error is ErrPoisoned.
func (s *FileStore) Rewrite(events iter.Seq[[]byte]) error {
	if err := s.usable(); err != nil {
		return err
	}
	s.writer.Wait()
	return s.replace(func(w io.Writer) error {
		var frame []byte
		for p := range events {
			frame = appendFrame(frame[:0], p)
			if _, err := w.Write(frame); err != nil {
				return err
			}
		}
		return nil
	})
}

// replace replaces the current file by a new one: the header and what body writes.
func (s *FileStore) replace(body func(io.Writer) error) error {
	next, err := os.OpenFile(s.temporary(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create state file: %w", err)
	}
	end, err := writeStore(next, body)
	if err == nil {
		err = os.Rename(s.temporary(), s.path)
	}
	if err != nil {
		next.Close()
		os.Remove(s.temporary())
		return fmt.Errorf("rewrite state file: %w", err)
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.end = next, end
	if err := durable.SyncDir(filepath.Dir(s.path)); err != nil {
		s.poisoned = true
		return fmt.Errorf("sync directory of state file: %w: %w", ErrPoisoned, err)
	}
	s.poisoned = false
	return nil
}

// writeStore writes a whole state file and makes its bytes durable.
func writeStore(f *os.File, body func(io.Writer) error) (end int64, err error) {
	w := bufio.NewWriterSize(f, 64<<10)
	w.WriteString(storeMagic)
	w.WriteByte(storeVersion)
	if err := body(w); err != nil {
		return 0, err
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return f.Seek(0, io.SeekCurrent)
}

// Close implements Store. It waits for what is being appended.
func (s *FileStore) Close() error {
	if s.file == nil {
		return nil
	}
	s.writer.Wait()
	err := s.file.Close()
	s.file = nil
	return err
}
