package wal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

// buffer is a directory with the lanes that were written under one id.
type buffer struct {
	id    weir.BufferID
	dir   string
	disk  *disk
	log   *slog.Logger
	lanes [weir.Lanes]lane

	mu      sync.Mutex
	made    bool  // the directory is there, durably
	rowList *list // nil: not read yet
	rows    []weir.MapRow
}

const rowsName = "rows"

// bufferName is the name of a buffer's directory.
func bufferName(id weir.BufferID) string {
	return fmt.Sprintf("%x-%x", id[:4], id[4:])
}

// parseBufferName reads what bufferName wrote.
func parseBufferName(name string) (id weir.BufferID, ok bool) {
	counter, random, ok := strings.Cut(name, "-")
	p, err := hex.DecodeString(counter + random)
	if !ok || err != nil || len(counter) != 8 || len(p) != len(id) {
		return weir.BufferID{}, false
	}
	copy(id[:], p)
	return id, bufferName(id) == name
}

// newBuffer is a buffer that is not on the disk yet, or not loaded.
func (l *Log) newBuffer(id weir.BufferID) *buffer {
	b := &buffer{id: id, dir: filepath.Join(l.buffersDir(), bufferName(id)), disk: l.disk, log: l.opts.Log}
	for i := range b.lanes {
		la := &b.lanes[i]
		la.disk, la.log = l.disk, l.opts.Log
		la.dir = filepath.Join(b.dir, weir.Lane(i).String())
		la.salt = saltOf(id, byte(i))
	}
	return b
}

// load reads a buffer of an earlier open. One whose directory is gone gets a new
// one: what is missing is written down there like any other damage.
func (b *buffer) load(said func(weir.Lane) witness) error {
	_, err := os.ReadDir(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = b.make()
	}
	if err != nil {
		return err
	}
	b.made = true
	for i := range b.lanes {
		if err := b.lanes[i].load(said(weir.Lane(i))); err != nil {
			return fmt.Errorf("lane %v: %w", weir.Lane(i), err)
		}
	}
	return nil
}

// end is where the buffer's lanes end. Nothing is appended to it any more.
func (b *buffer) end() endedBuffer {
	e := endedBuffer{id: b.id}
	for i := range b.lanes {
		var firm uint64
		if e.acked[i], e.last[i], firm = b.lanes[i].bounds(); firm < e.last[i] {
			e.guess |= 1 << i
		}
	}
	return e
}

// make creates the directory, durably, unless it is there.
func (b *buffer) make() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made {
		return nil
	}
	if err := b.disk.mkdir(b.dir); err != nil {
		return err
	}
	b.made = true
	return nil
}

// empty says whether the buffer never had a record.
func (b *buffer) empty() bool {
	for i := range b.lanes {
		if _, last, _ := b.lanes[i].bounds(); last > 0 {
			return false
		}
	}
	return true
}

// delivered says whether every record is acknowledged.
func (b *buffer) delivered() bool {
	for i := range b.lanes {
		if acked, last, _ := b.lanes[i].bounds(); acked < last {
			return false
		}
	}
	return true
}

// bytes is what the buffer's segments take on the disk.
func (b *buffer) bytes() int64 {
	var n int64
	for i := range b.lanes {
		n += b.lanes[i].bytes()
	}
	return n
}

// remove takes the buffer off the disk.
func (b *buffer) remove() error {
	for i := range b.lanes {
		b.lanes[i].marks.close()
	}
	if _, err := os.Stat(b.dir); os.IsNotExist(err) {
		return nil
	}
	return b.disk.removeDir(b.dir)
}

// Rows returns a buffer's map table, in the order in which it was written.
func (l *Log) Rows(id weir.BufferID) ([]weir.MapRow, error) {
	b, err := l.buffer(id)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.loadRows(); err != nil {
		return nil, fmt.Errorf("read map table of buffer %v: %w", id, err)
	}
	return slices.Clone(b.rows), nil
}

// AddRow appends a row to its buffer's map table; durable on return. A row that
// is there already is not written again.
func (l *Log) AddRow(row weir.MapRow) error {
	if err := checkRow(row); err != nil {
		return err
	}
	id := row.Buffer
	b, err := l.buffer(id)
	if err != nil {
		return err
	}
	if err := b.make(); err != nil {
		return fmt.Errorf("create buffer %v: %w", id, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.loadRows(); err != nil {
		return fmt.Errorf("read map table of buffer %v: %w", id, err)
	}
	if slices.Contains(b.rows, row) {
		return nil
	}
	err = b.rowList.append(appendRow(nil, row), func(add func([]byte)) {
		for _, r := range b.rows {
			add(appendRow(nil, r))
		}
	})
	if err != nil {
		return fmt.Errorf("write map table of buffer %v: %w", id, err)
	}
	b.rows = append(b.rows, row)
	return nil
}

// loadRows reads the map table once. A row that is damaged is gone; the caller
// asks the cloud again.
func (b *buffer) loadRows() error {
	if b.rowList != nil {
		return nil
	}
	var rows []weir.MapRow
	list, err := openList(b.disk, filepath.Join(b.dir, rowsName), saltOf(b.id, partRows), kindRow, func(body []byte) error {
		row, err := parseRow(body)
		if err == nil {
			row.Buffer = b.id
			rows = append(rows, row)
		}
		return err
	})
	if err != nil {
		return err
	}
	if list.torn {
		b.log.Warn("the map table of a buffer is damaged", "buffer", b.id, "rows", len(rows))
	}
	b.rowList, b.rows = list, rows
	return nil
}

// rowHeader is the length of a row without its topic.
const rowHeader = 1 + 4 + 8 + 16

func checkRow(r weir.MapRow) error {
	if !r.Lane.Valid() || r.Partitions < 1 || r.From == 0 || r.Name == "" || len(r.Name) > math.MaxUint16 {
		return fmt.Errorf("map table row for topic %q, lane %v, %d partitions from %d is not valid",
			r.Name, r.Lane, r.Partitions, r.From)
	}
	return nil
}

// appendRow appends the body of a row frame.
func appendRow(dst []byte, r weir.MapRow) []byte {
	dst = append(dst, byte(r.Lane))
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.Partitions))
	dst = binary.BigEndian.AppendUint64(dst, r.From)
	dst = append(dst, r.Topic[:]...)
	return append(dst, r.Name...)
}

// parseRow takes nothing but what appendRow wrote. The row does not know its buffer.
func parseRow(p []byte) (weir.MapRow, error) {
	if len(p) <= rowHeader {
		return weir.MapRow{}, corrupt("row of %d bytes", len(p))
	}
	r := weir.MapRow{
		Lane:  weir.Lane(p[0]),
		Row:   weir.Row{Partitions: int32(binary.BigEndian.Uint32(p[1:])), From: binary.BigEndian.Uint64(p[5:])},
		Topic: weir.TopicID(p[13:rowHeader]),
		Name:  string(p[rowHeader:]),
	}
	if err := checkRow(r); err != nil {
		return weir.MapRow{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return r, nil
}
