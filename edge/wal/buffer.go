package wal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

// buffer is a directory with the lanes that were written under one buffer id.
type buffer struct {
	id    weir.BufferID
	dir   string
	disk  *disk
	log   *slog.Logger
	lanes [weir.Lanes]lane

	mu   sync.Mutex
	made bool // the directory exists, durably
	rows mapTable
}

// bufferName is the name of a buffer's directory.
func bufferName(id weir.BufferID) string {
	return fmt.Sprintf("%x-%x", id[:4], id[4:])
}

// parseBufferName is the inverse of bufferName.
func parseBufferName(name string) (id weir.BufferID, ok bool) {
	counter, random, ok := strings.Cut(name, "-")
	p, err := hex.DecodeString(counter + random)
	if !ok || err != nil || len(counter) != 8 || len(p) != len(id) {
		return weir.BufferID{}, false
	}
	copy(id[:], p)
	return id, bufferName(id) == name
}

// newBuffer returns a buffer that is not on the disk yet, or not loaded.
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

// load reads a buffer of an earlier open. If its directory is gone, load makes a new
// one, and marks the missing records like any other damage.
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

// end returns where the buffer's lanes end. Nothing is appended to the buffer any more.
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

// make creates the directory, durably, unless it exists.
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

// empty reports whether nothing was ever stored in the buffer.
func (b *buffer) empty() bool {
	for i := range b.lanes {
		if _, last, _ := b.lanes[i].bounds(); last > 0 {
			return false
		}
	}
	return true
}

// delivered reports whether every record is acknowledged.
func (b *buffer) delivered() bool {
	for i := range b.lanes {
		if acked, last, _ := b.lanes[i].bounds(); acked < last {
			return false
		}
	}
	return true
}

// bytes returns how many bytes the buffer's segments take on the disk.
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
