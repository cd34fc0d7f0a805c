package wal

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/weirmq/weir/storage/weir"
)

const rowsName = "rows"

// mapTable is the map table of a buffer: a list on its disk.
type mapTable struct {
	list *list // nil: not read yet
	rows []weir.MapRow
}

// Rows returns a buffer's map table, in the order in which it was written.
func (l *Log) Rows(id weir.BufferID) ([]weir.MapRow, error) {
	b, err := l.buffer(id)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.rows.load(b); err != nil {
		return nil, fmt.Errorf("read map table of buffer %v: %w", id, err)
	}
	return slices.Clone(b.rows.rows), nil
}

// AddRow appends a row to its buffer's map table; durable on return. It does not write a
// row that is there already.
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
	if err := b.rows.load(b); err != nil {
		return fmt.Errorf("read map table of buffer %v: %w", id, err)
	}
	if err := b.rows.add(row); err != nil {
		return fmt.Errorf("write map table of buffer %v: %w", id, err)
	}
	return nil
}

// load reads the map table of b once. A damaged row is dropped; the caller asks the
// cloud for it again.
func (t *mapTable) load(b *buffer) error {
	if t.list != nil {
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
		b.log.Warn("the map table of a buffer is damaged: the readable part is used", "buffer", b.id, "rows", len(rows))
	}
	t.list, t.rows = list, rows
	return nil
}

// add appends a row unless it is there; durable on return.
func (t *mapTable) add(row weir.MapRow) error {
	if slices.Contains(t.rows, row) {
		return nil
	}
	err := t.list.append(appendRow(nil, row), func(add func([]byte)) {
		for _, r := range t.rows {
			add(appendRow(nil, r))
		}
	})
	if err != nil {
		return err
	}
	t.rows = append(t.rows, row)
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

// parseRow accepts only what appendRow wrote. It does not set the row's buffer.
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
