package wal

import (
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/weirmq/weir/storage/crc"
)

const (
	cellMagic   = "\xf7WCe"
	cellVersion = 1
	slotSize    = 64
	slotStride  = 512
	cellSize    = 2 * slotStride
	cellPayload = 40
)

// cell is a small file that holds one value of 40 bytes and is overwritten in
// place: it needs no free space, so it works on a full disk. Two slots are
// written in turn; a write that a crash tears leaves the value before it.
// It is for one goroutine at a time.
type cell struct {
	disk *disk
	path string
	salt salt
	file *os.File
	gen  uint64 // of the newest slot; 0: no slot is valid

	// clean says that the value read was the last one written: the other slot holds
	// the value before it, or is blank because there was none. A damaged slot may have
	// held a later value.
	clean bool
}

// openCell opens the cell at path, or creates it, and returns its value. The value is
// nil if the cell is new or both slots are damaged. The name of a new file is not
// durable before its directory is synced.
func openCell(d *disk, path string, s salt) (*cell, []byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, nil, err
	}
	c := &cell{disk: d, path: path, salt: s, file: f}
	value, err := c.read()
	if err != nil && !unreadable(err) {
		f.Close()
		return nil, nil, err
	}
	return c, value, nil
}

// readCell returns the value of the cell at path, and whether it is clean, without
// opening the file for writing. The value is nil if the file is missing or damaged.
func readCell(path string, s salt) (value []byte, clean bool) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	c := cell{salt: s, file: f}
	value, _ = c.read()
	return value, c.clean
}

func (c *cell) read() ([]byte, error) {
	p := make([]byte, cellSize)
	n, err := c.file.ReadAt(p, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var value []byte
	var gens [cellSize / slotStride]uint64
	for i := range gens {
		slot := p[i*slotStride:][:slotSize]
		v, gen, ok := parseSlot(slot, c.salt)
		if !ok || n < i*slotStride+slotSize {
			continue
		}
		if gens[i] = gen; gen > c.gen {
			value, c.gen = v, gen
		}
	}
	// The first value goes to the second slot: the first slot stays blank until
	// there is a second value.
	first := c.gen == 1 && gens[1] == 1 && [slotSize]byte(p[:slotSize]) == [slotSize]byte{}
	c.clean = first || min(gens[0], gens[1]) > 0 && max(gens[0], gens[1])-min(gens[0], gens[1]) == 1
	return value, nil
}

// write puts a value of cellPayload bytes into the slot that does not hold the newest
// value. It survives kill -9; to survive a power cut it must be synced.
func (c *cell) write(value []byte) error {
	gen := c.gen + 1
	slot := sealSlot(value, gen, c.salt)
	err := c.disk.do(stepCell, c.path, func() error {
		_, err := c.file.WriteAt(slot[:], int64(gen%2)*slotStride)
		return err
	})
	if err == nil {
		c.gen = gen
	}
	return err
}

// sync makes what was written durable.
func (c *cell) sync() error {
	return c.disk.do(stepCellSync, c.path, c.file.Sync)
}

// set writes a value, durably. If the disk refuses that, set replaces the file by a new
// one, which lies in other blocks.
func (c *cell) set(value []byte) error {
	err := c.write(value)
	if err == nil {
		err = c.sync()
	}
	if err == nil {
		return nil
	}
	gen := c.gen + 2
	p := make([]byte, cellSize)
	for _, g := range [...]uint64{gen - 1, gen} { // both, as if the value had been written twice
		slot := sealSlot(value, g, c.salt)
		copy(p[g%2*slotStride:], slot[:])
	}
	if c.disk.replace(c.path, p) != nil {
		return err
	}
	f, err := os.OpenFile(c.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	c.file.Close()
	c.file, c.gen = f, gen
	return nil
}

func (c *cell) close() error { return c.file.Close() }

// sealSlot encodes a slot.
func sealSlot(value []byte, gen uint64, s salt) [slotSize]byte {
	var p [slotSize]byte
	copy(p[:], cellMagic)
	p[4] = cellVersion
	binary.BigEndian.PutUint64(p[8:], gen)
	copy(p[16:16+cellPayload], value)
	binary.BigEndian.PutUint32(p[60:], crc.Update(uint32(s), p[:60]))
	return p
}

// parseSlot accepts only what sealSlot wrote with the same salt.
func parseSlot(p []byte, s salt) (value []byte, gen uint64, ok bool) {
	if len(p) != slotSize || string(p[:4]) != cellMagic || p[4] != cellVersion {
		return nil, 0, false
	}
	if binary.BigEndian.Uint32(p[60:]) != crc.Update(uint32(s), p[:60]) {
		return nil, 0, false
	}
	return p[16 : 16+cellPayload], binary.BigEndian.Uint64(p[8:]), true
}
