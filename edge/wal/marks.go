package wal

import (
	"encoding/binary"
	"path/filepath"
	"sync"
)

// marksName is a lane's side file.
const marksName = "marks"

// mark is what a lane stores beside its segments.
type mark struct {
	high  uint64 // newest durable sequence; once sealed, anything behind it in the segments does not count
	acked uint64 // all records up to this one are delivered

	sealed bool // nothing will ever follow high
	guess  bool // high is a guess: the true one was lost
	loose  bool // acked was lost: more may have been delivered

	boot uint32 // the start of the machine in which high was written; 0: not known
	firm uint64 // if guess: up to here there certainly were records
}

const (
	markSealed = 1 << iota
	markGuess
	markLoose
)

func (m mark) encode() []byte {
	p := make([]byte, cellPayload)
	binary.BigEndian.PutUint64(p, m.high)
	binary.BigEndian.PutUint64(p[8:], m.acked)
	if m.sealed {
		p[16] |= markSealed
	}
	if m.guess {
		p[16] |= markGuess
	}
	if m.loose {
		p[16] |= markLoose
	}
	binary.BigEndian.PutUint32(p[20:], m.boot)
	binary.BigEndian.PutUint64(p[24:], m.firm)
	return p
}

// parseMark reads a cell's value; ok is false if the cell has none.
func parseMark(p []byte) (m mark, ok bool) {
	if len(p) != cellPayload {
		return mark{}, false
	}
	return mark{
		high:   binary.BigEndian.Uint64(p),
		acked:  binary.BigEndian.Uint64(p[8:]),
		sealed: p[16]&markSealed != 0,
		guess:  p[16]&markGuess != 0,
		loose:  p[16]&markLoose != 0,
		boot:   binary.BigEndian.Uint32(p[20:]),
		firm:   binary.BigEndian.Uint64(p[24:]),
	}, true
}

// marks keeps a lane's mark on the disk. The zero value keeps it in memory only, until
// open is called. Its methods may be called from several goroutines: the sender moves
// acked while an append moves high.
type marks struct {
	mu   sync.Mutex
	mark mark
	cell *cell
}

// open opens the lane's marks file, or creates it. Its name is durable on return.
func (m *marks) open(d *disk, dir string, s salt) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cell != nil {
		return nil
	}
	c, value, err := openCell(d, filepath.Join(dir, marksName), s^partMarks)
	if err != nil {
		return err
	}
	if value == nil {
		if err = c.set(m.mark.encode()); err == nil {
			err = d.syncDir(dir)
		}
	}
	if err != nil {
		c.close()
		return err
	}
	m.cell = c
	return nil
}

// write applies change and writes the mark. The mark survives kill -9; the next set makes
// it durable.
func (m *marks) write(change func(*mark)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.mark)
	return m.cell.write(m.mark.encode())
}

// acked moves the acknowledged position in memory. The next write of the mark includes it.
func (m *marks) acked(seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mark.acked = max(m.mark.acked, seq)
}

// set applies change and makes the mark durable.
func (m *marks) set(change func(*mark)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.mark)
	return m.cell.set(m.mark.encode())
}

// opened reports whether there is a marks file.
func (m *marks) opened() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cell != nil
}

// close closes the marks file.
func (m *marks) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cell != nil {
		m.cell.close()
		m.cell = nil
	}
}
