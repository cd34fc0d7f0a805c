package row

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/weirmq/weir/storage/crc"
)

// The index of a full pack repeats the heads of its groups behind the pack's last byte,
// so that a process that opens the row reads them at once. The appender writes it when
// the next pack is durable: no group can follow then. It is not synced. After a crash it
// may be missing or torn, and then the heads are read from the groups.
//
// Heads are never changed and never in a hole, so an index stays true as long as its
// pack is there.

// appendIndex encodes the index of a pack with these records, which are all it has.
func appendIndex(p []byte, identity [16]byte, records []record) []byte {
	start := len(p)
	p = binary.BigEndian.AppendUint32(p, indexMagic)
	p = append(p, make([]byte, indexHeadSize-4)...)
	for len(records) > 0 {
		n := 1 // records of the first group: their entries follow one another
		for n < len(records) && records[n].id == records[n-1].id+entrySize {
			n++
		}
		p = appendEntries(p, identity, records[0].id-groupHeadSize, records[:n])
		records = records[n:]
	}
	index := p[start:]
	binary.BigEndian.PutUint64(index[8:], uint64(len(index)-indexHeadSize))
	binary.BigEndian.PutUint32(index[4:], indexSum(index, identity))
	return p
}

func indexSum(p []byte, identity [16]byte) uint32 {
	return crc.Update(crc.Sum(identity[:]), p[8:])
}

// indexSize returns how many bytes the index in p claims to have. The heads in it are
// those of groups below limit, so they cannot be longer.
func indexSize(p []byte, limit int64) (n int64, ok bool) {
	if len(p) < indexHeadSize || binary.BigEndian.Uint32(p) != indexMagic {
		return 0, false
	}
	heads := binary.BigEndian.Uint64(p[8:])
	return indexHeadSize + int64(heads), heads <= uint64(limit)
}

// decodeIndex reads the index of a pack that ends at limit. It returns false unless the
// index belongs to that pack and has every group of it.
func decodeIndex(p []byte, identity [16]byte, limit int64) ([]record, bool) {
	n, ok := indexSize(p, limit)
	if !ok || n > int64(len(p)) || binary.BigEndian.Uint32(p[4:]) != indexSum(p[:n], identity) {
		return nil, false
	}
	var all []record
	off := int64(page)
	for p = p[indexHeadSize:n]; len(p) > 0; {
		g, ok := decodeGroup(p, identity, off, limit)
		if !ok {
			return nil, false
		}
		all = append(all, g.records...)
		p, off = p[groupHeadSize+len(g.records)*entrySize:], g.next
	}
	return all, off == limit
}

// readIndex reads the index of a pack that ends at limit; ok is false if it has none
// that is whole.
func readIndex(f io.ReaderAt, h packHead, limit int64) (all []record, ok bool, err error) {
	p, err := readUpTo(f, h.size, page)
	if err != nil {
		return nil, false, err
	}
	if n, ok := indexSize(p, limit); ok && n > int64(len(p)) {
		if p, err = readUpTo(f, h.size, n); err != nil {
			return nil, false, err
		}
	}
	all, ok = decodeIndex(p, h.identity, limit)
	return all, ok, nil
}

// writeIndex writes the index of the last pack, which gets no more groups. Nothing
// depends on it: if it cannot be written, it is left out.
func (w *appender) writeIndex() {
	if w.file == nil || w.r.version < 2 {
		return
	}
	w.r.mu.Lock()
	var index []byte
	if w.pack.end == w.end && !w.pack.damaged {
		index = appendIndex(nil, w.pack.identity, w.pack.records)
	}
	w.r.mu.Unlock()
	w.r.rows.mutations.at("index")
	if _, err := w.file.WriteAt(index, w.pack.size); err != nil {
		slog.Warn("the index of a pack was not written: opening the bucket takes longer", "file", w.file.Name(), "err", err)
	}
}

// load reads a pack that has a successor and ends at limit: its index, or what scan
// reads. The caller holds mu.
func (r *row) load(p *pack, limit int64) error {
	if r.version < 2 || p.end != page || limit <= page {
		return r.scan(p, limit)
	}
	f, h, err := r.openPack(p.number)
	if err != nil {
		return err
	}
	defer f.Close()
	if h.identity != p.identity {
		return errPackRemoved
	}
	all, ok, err := readIndex(f, h, limit)
	if err != nil || !ok {
		r.rows.reportIndex(f, err)
		return r.scan(p, limit)
	}
	if err := r.same(f, p); err != nil {
		return err
	}
	p.records, p.end, p.indexRead = all, limit, true
	return nil
}

// reportIndex logs, once, that a pack has no index, or why it could not be read.
func (rs *Rows) reportIndex(f *os.File, err error) {
	if !rs.slow.CompareAndSwap(false, true) {
		return
	}
	args := []any{"file", f.Name()}
	if err != nil {
		args = append(args, "err", err)
	}
	slog.Info("a pack has no index, or a damaged one: all of its groups are read, which takes longer; this is said once", args...)
}

// Verify compares the indexes of the row in a folder, as far as they were read, with the
// heads of the groups. A head that is damaged is found only here while the index is
// whole.
func (rs *Rows) Verify(ctx context.Context, folder string) error {
	r, err := rs.row(folder)
	if r == nil || err != nil {
		return err
	}
	r.mu.Lock()
	err = r.refresh()
	packs := slices.Clone(r.packs)
	r.mu.Unlock()
	for _, p := range packs {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if failed := r.verify(p); failed != nil {
			err = errors.Join(err, failed)
		}
	}
	return err
}

// verify compares the index of a pack with its groups.
func (r *row) verify(p *pack) error {
	r.mu.Lock()
	known := *p
	r.mu.Unlock()
	if !known.indexRead {
		return nil // scan has found what is damaged
	}
	f, _, err := r.openPack(p.number)
	if errors.Is(err, errPackRemoved) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	read := pack{packHead: p.packHead, end: page}
	if err := read.scanTo(f, known.end); err != nil {
		return err
	}
	if err := r.same(f, p); err != nil {
		if errors.Is(err, errPackRemoved) {
			return nil
		}
		return err
	}
	if read.damaged || !slices.Equal(read.records, known.records) {
		return fmt.Errorf("%s: %w: a group differs from the index; its records can be read as long as the index is whole", f.Name(), errDamaged)
	}
	return nil
}
