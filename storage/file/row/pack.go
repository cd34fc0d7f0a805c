package row

import (
	"encoding/binary"
	"fmt"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/crc"
)

// The files of a row, byte by byte, are in FORMAT.md. Numbers are big-endian.
const (
	version     = 1 // of all files but that of a row
	lastVersion = 2 // of a row

	rowMagic   = "WEIRROW1"
	endMagic   = "WEIREND1"
	packMagic  = "WEIRPCK1"
	groupMagic = 0x57475250 // WGRP
	goneMagic  = 0x57474f4e // WGON
	markMagic  = 0x574d524b // WMRK
	indexMagic = 0x57494458 // WIDX

	rowSize       = 8 + 4 + 4 + 16
	endSize       = 8 + 4 + 4 + 8 + 8
	packHeadSize  = 8 + 4 + 4 + 16 + 16 + 8 + 8 + 8
	groupHeadSize = 4 + 4 + 4 + 4
	entrySize     = 8 + 4 + 4
	goneSize      = 4 + 4 + 8 + 8
	markSize      = 4 + 4 + 8 + 8
	indexHeadSize = 4 + 4 + 8

	// page is the unit of groups: each begins at a page and is filled to the end of
	// one. So acknowledged bytes are never written again, and no page must be read
	// before it is written.
	page = 4096

	maxRecord = 8 << 20 // bodies that are longer are files of their own
	maxGroup  = 8 << 20 // bytes of bodies in a group, unless it has only one record
	maxCount  = 4096    // records in a group
)

// Errors in the files of a row. Both are permanent: see storage.ErrDamaged.
var (
	errFormat  = fmt.Errorf("%w, or written by a later version", storage.ErrDamaged)
	errDamaged = storage.ErrDamaged
)

// record is an object in a pack.
type record struct {
	number uint64
	id     int64 // where its entry is in the pack
	off    int64 // where its body is
	size   int64
	crc    uint32
}

// group is a number of records that were written and synced together.
type group struct {
	off, next int64
	records   []record
}

// rowEnd is where a frozen row ends: it has all packs before this one, and this one up
// to off. Pack 0, which never exists, means that the row has no packs.
type rowEnd struct {
	pack uint64
	off  int64
}

// packHead is the head of a pack.
type packHead struct {
	row, identity [16]byte
	number        uint64
	before        int64 // where the pack before this one ends
	size          int64
}

func checked(p []byte, magic string, size int, seed []byte, last uint32) error {
	if len(p) < size || string(p[:8]) != magic {
		return errDamaged
	}
	sum := crc.Update(crc.Sum(seed), p[12:size])
	if binary.BigEndian.Uint32(p[8:]) != sum {
		return fmt.Errorf("%w: checksum", errDamaged)
	}
	if v := binary.BigEndian.Uint32(p[12:]); v == 0 || v > last {
		return fmt.Errorf("%w: version %d, this one knows %d", errFormat, v, last)
	}
	return nil
}

func withSum(p, seed []byte) []byte {
	binary.BigEndian.PutUint32(p[8:], crc.Update(crc.Sum(seed), p[12:]))
	return p
}

func fixed(magic string, size int, version uint32) []byte {
	p := make([]byte, 12, size)
	copy(p, magic)
	return binary.BigEndian.AppendUint32(p, version)
}

func encodeRow(id [16]byte, version uint32) []byte {
	return withSum(append(fixed(rowMagic, rowSize, version), id[:]...), nil)
}

func decodeRow(p []byte) (id [16]byte, version uint32, err error) {
	if err := checked(p, rowMagic, rowSize, nil, lastVersion); err != nil {
		return id, 0, err
	}
	return [16]byte(p[16:]), binary.BigEndian.Uint32(p[12:]), nil
}

func encodeEnd(e rowEnd, row [16]byte) []byte {
	p := binary.BigEndian.AppendUint64(fixed(endMagic, endSize, version), e.pack)
	return withSum(binary.BigEndian.AppendUint64(p, uint64(e.off)), row[:])
}

func decodeEnd(p []byte, row [16]byte) (e rowEnd, err error) {
	if err := checked(p, endMagic, endSize, row[:], version); err != nil {
		return e, err
	}
	return rowEnd{binary.BigEndian.Uint64(p[16:]), int64(binary.BigEndian.Uint64(p[24:]))}, nil
}

// encodePackHead returns the first page of a pack.
func encodePackHead(h packHead) []byte {
	p := append(fixed(packMagic, page, version), h.row[:]...)
	p = append(p, h.identity[:]...)
	p = binary.BigEndian.AppendUint64(p, h.number)
	p = binary.BigEndian.AppendUint64(p, uint64(h.before))
	p = binary.BigEndian.AppendUint64(p, uint64(h.size))
	return withSum(p, nil)[:page]
}

func decodePackHead(p []byte) (h packHead, err error) {
	if err := checked(p, packMagic, packHeadSize, nil, version); err != nil {
		return h, err
	}
	h.row, h.identity = [16]byte(p[16:]), [16]byte(p[32:])
	h.number = binary.BigEndian.Uint64(p[48:])
	h.before = int64(binary.BigEndian.Uint64(p[56:]))
	h.size = int64(binary.BigEndian.Uint64(p[64:]))
	if h.size < page || h.before < 0 {
		return h, fmt.Errorf("%w: pack of %d bytes after %d", errDamaged, h.size, h.before)
	}
	return h, nil
}

// groupSize returns the size of a group of count records with bodies of bytes in all.
func groupSize(count int, bytes int64) int64 {
	return roundUp(groupHeadSize + int64(count)*entrySize + bytes)
}

func roundUp(n int64) int64 { return (n + page - 1) / page * page }

// appendHead encodes the head of a group for offset off of the pack with the given
// identity, and returns where its records are. The bodies follow it, and zeros up to
// group.next.
func appendHead(p []byte, identity [16]byte, off int64, creates []*creation) ([]byte, group) {
	g := group{off: off, records: make([]record, len(creates))}
	body := off + groupHeadSize + int64(len(creates))*entrySize
	for i, c := range creates {
		g.records[i] = record{
			number: c.number, id: off + groupHeadSize + int64(i)*entrySize, off: body, size: int64(len(c.body)),
			crc: c.sum,
		}
		body += g.records[i].size
	}
	g.next = roundUp(body)
	return appendEntries(p, identity, off, g.records), g
}

// appendEntries encodes the head of the group at off that has these records.
func appendEntries(p []byte, identity [16]byte, off int64, records []record) []byte {
	start := len(p)
	p = binary.BigEndian.AppendUint32(p, groupMagic)
	p = binary.BigEndian.AppendUint32(p, 0)
	p = binary.BigEndian.AppendUint32(p, uint32(len(records)))
	p = binary.BigEndian.AppendUint32(p, 0)
	for _, rec := range records {
		p = binary.BigEndian.AppendUint64(p, rec.number)
		p = binary.BigEndian.AppendUint32(p, uint32(rec.size))
		p = binary.BigEndian.AppendUint32(p, rec.crc)
	}
	binary.BigEndian.PutUint32(p[start+4:], groupSum(p[start:], identity, off))
	return p
}

// groupSum is the checksum of a group's head. It covers the pack's identity and the
// position, so that old content of a file that is used again is never taken for a
// group.
func groupSum(head []byte, identity [16]byte, off int64) uint32 {
	seed := binary.BigEndian.AppendUint64(identity[:], uint64(off))
	return crc.Update(crc.Sum(seed), head[8:])
}

// groupCount returns how many records the head of a group in p claims to have.
func groupCount(p []byte) (n int, ok bool) {
	if len(p) < groupHeadSize || binary.BigEndian.Uint32(p) != groupMagic || binary.BigEndian.Uint32(p[12:]) != 0 {
		return 0, false
	}
	n = int(binary.BigEndian.Uint32(p[8:]))
	return n, n > 0 && n <= maxCount
}

// decodeGroup reads the head of the group at off, which must end at or before limit. It
// returns false if there is none.
func decodeGroup(p []byte, identity [16]byte, off, limit int64) (group, bool) {
	n, ok := groupCount(p)
	head := groupHeadSize + n*entrySize
	if !ok || len(p) < head || binary.BigEndian.Uint32(p[4:]) != groupSum(p[:head], identity, off) {
		return group{}, false
	}
	g := group{off: off, records: make([]record, n)}
	body := off + int64(head)
	for i := range g.records {
		at := groupHeadSize + i*entrySize
		g.records[i] = record{
			number: binary.BigEndian.Uint64(p[at:]), id: off + int64(at), off: body,
			size: int64(binary.BigEndian.Uint32(p[at+8:])), crc: binary.BigEndian.Uint32(p[at+12:]),
		}
		body += g.records[i].size
	}
	g.next = roundUp(body)
	return g, g.next <= limit
}
