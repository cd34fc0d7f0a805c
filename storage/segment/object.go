package segment

import (
	"encoding/binary"
	"fmt"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/record"
)

// FORMAT.md has the tables of header and trailer. Numbers are big-endian.
const (
	magic   = "WSEG"
	version = 1

	headerSize  = 32
	headerFrom  = 8 // where the bytes of the header begin that its CRC covers
	trailerSize = 16
)

func appendHeader(dst []byte, shard uint32, epoch, number uint64) []byte {
	be := binary.BigEndian
	at := len(dst)
	dst = append(dst, magic...)
	dst = append(dst, 0, 0, 0, 0, version, 0, 0, 0)
	dst = be.AppendUint32(dst, shard)
	dst = be.AppendUint64(dst, epoch)
	dst = be.AppendUint64(dst, number)
	be.PutUint32(dst[at+4:], crc.Sum(dst[at+headerFrom:]))
	return dst
}

// appendDirectory ends an object: all pieces once more, and the trailer that
// says where they are.
func appendDirectory(dst []byte, pieces []Piece) []byte {
	at := len(dst)
	for i := range pieces {
		dst = pieces[i].append(dst)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(at))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(pieces)))
	dst = binary.BigEndian.AppendUint32(dst, crc.Sum(dst[at:]))
	return append(dst, magic...)
}

// Open proves a whole object that was read back, and returns its pieces: header,
// directory and indexes agree, cover every byte, and every checksum matches, the
// batches' own too. A single bit that was flipped, or a byte that is missing, is
// found.
//
// Errors: ErrCorrupt, and ErrFormat for an object of a later version; both name
// the key.
func Open(object []byte, shard uint32, epoch, number uint64) ([]Piece, error) {
	pieces, err := open(object, shard, epoch, number)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Key(shard, epoch, number), err)
	}
	return pieces, nil
}

func open(object []byte, shard uint32, epoch, number uint64) ([]Piece, error) {
	if len(object) < headerSize+trailerSize || len(object) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(object))
	}
	if err := checkHeader(object[:headerSize], shard, epoch, number); err != nil {
		return nil, err
	}
	pieces, end, err := decodeDirectory(object)
	if err != nil {
		return nil, err
	}
	at := headerSize
	for i := range pieces {
		p := &pieces[i]
		if err := p.Check(); err != nil {
			return nil, fmt.Errorf("piece %d: %w", i, err)
		}
		if int64(p.At) != int64(at) || int64(p.At)+int64(p.Size) > int64(end) {
			return nil, fmt.Errorf("%w: piece %d of %d bytes is at %d instead of %d", ErrCorrupt, i, p.Size, p.At, at)
		}
		at += int(p.Size)
		if err := p.verify(object); err != nil {
			return nil, fmt.Errorf("piece %d: %w", i, err)
		}
	}
	if at != end {
		return nil, fmt.Errorf("%w: pieces end at %d, directory begins at %d", ErrCorrupt, at, end)
	}
	return pieces, nil
}

func checkHeader(p []byte, shard uint32, epoch, number uint64) error {
	be := binary.BigEndian
	switch {
	case string(p[:4]) != magic:
		return fmt.Errorf("%w: no magic in the header", ErrCorrupt)
	case be.Uint32(p[4:]) != crc.Sum(p[headerFrom:]):
		return fmt.Errorf("%w: checksum of the header", ErrCorrupt)
	case p[8] != version || p[9] != 0 || p[10] != 0 || p[11] != 0:
		return fmt.Errorf("%w: version %d with flags %x, this program knows %d", ErrFormat, p[8], p[9:12], version)
	case be.Uint32(p[12:]) != shard || be.Uint64(p[16:]) != epoch || be.Uint64(p[24:]) != number:
		return fmt.Errorf("%w: it says it is %s", ErrCorrupt, Key(be.Uint32(p[12:]), be.Uint64(p[16:]), be.Uint64(p[24:])))
	}
	return nil
}

// decodeDirectory returns the pieces that the directory names, and where it
// begins.
func decodeDirectory(object []byte) (pieces []Piece, at int, err error) {
	be := binary.BigEndian
	end := len(object) - trailerSize
	trailer := object[end:]
	if string(trailer[12:]) != magic {
		return nil, 0, fmt.Errorf("%w: no magic at its end", ErrCorrupt)
	}
	from, count := int64(be.Uint32(trailer)), int64(be.Uint32(trailer[4:]))
	if from < headerSize || from+count*pieceSize != int64(end) {
		return nil, 0, fmt.Errorf("%w: directory of %d pieces at %d in %d bytes", ErrCorrupt, count, from, len(object))
	}
	if be.Uint32(trailer[8:]) != crc.Sum(object[from:end+8]) {
		return nil, 0, fmt.Errorf("%w: checksum of the directory", ErrCorrupt)
	}
	d := coding.NewDecoder(object[from:end])
	pieces = make([]Piece, count)
	for i := range pieces {
		pieces[i] = decodePiece(&d)
	}
	return pieces, int(from), nil
}

// verify proves a piece from its bytes in the object, in which it lies.
func (p *Piece) verify(object []byte) error {
	end := p.At + p.Size
	blocks, err := p.Blocks(object[end-p.Index : end])
	if err != nil {
		return err
	}
	records := int64(0)
	for i := range blocks {
		b := &blocks[i]
		batches, err := b.Batches(object[b.At : b.At+b.Size])
		if err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
		n, err := b.verify(batches)
		if err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
		records += n
	}
	if records != int64(p.Records) {
		return fmt.Errorf("%w: %d records instead of %d", ErrCorrupt, records, p.Records)
	}
	return nil
}

// verify checks what the block's checksum does not, and counts the records.
func (b *Block) verify(batches []record.Batch) (records int64, err error) {
	time := int64(NoTime)
	for _, batch := range batches {
		if err := batch.Verify(); err != nil {
			return 0, fmt.Errorf("%w: batch at offset %d: %w", ErrCorrupt, batch.BaseOffset(), err)
		}
		records += int64(batch.Count())
		time = max(time, timeOf(batch))
	}
	if time != b.MaxTime {
		return 0, fmt.Errorf("%w: highest timestamp is %d instead of %d", ErrCorrupt, time, b.MaxTime)
	}
	return records, nil
}
