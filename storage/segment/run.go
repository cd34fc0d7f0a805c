package segment

import (
	"fmt"

	"github.com/weirmq/weir/storage/record"
)

// Run verifies the bytes of a piece without an index, as it lies in a slot of the
// journal, and cuts it into blocks. Such a piece has a record at each of its offsets.
// All its batches have the leader epoch leader. Their CRCs are verified, and so is what
// these do not cover: base offset and leader epoch.
//
// Errors: ErrCorrupt.
func (p Piece) Run(raw []byte, leader int32) (blocks []Block, err error) {
	bad := func(format string, args ...any) ([]Block, error) {
		return nil, fmt.Errorf("%w: run of %v: %w", ErrCorrupt, p, fmt.Errorf(format, args...))
	}
	if len(raw) != int(p.Size) || p.Index != 0 {
		return bad("%d bytes and an index of %d", len(raw), p.Index)
	}
	next, time := p.Base, int64(NoTime)
	for at := 0; at < len(raw); {
		b, _, err := record.Next(raw[at:])
		if err == nil {
			err = b.Verify()
		}
		switch {
		case err != nil:
			return bad("batch at offset %d: %w", next, err)
		case b.BaseOffset() != next || b.LeaderEpoch() != leader || !b.Dense():
			return bad("batch at offset %d has base offset %d, leader epoch %d and %d records for %d+1 offsets", next, b.BaseOffset(), b.LeaderEpoch(), b.Count(), b.LastOffsetDelta())
		}
		if n := len(blocks); n == 0 || int(blocks[n-1].Size)+len(b) > BlockSize {
			blocks = append(blocks, Block{At: p.At + uint32(at)})
		}
		x := &blocks[len(blocks)-1]
		x.take(b)
		x.CRC = record.ExtendCRC(x.CRC, b)
		next, time, at = b.NextOffset(), max(time, timeOf(b)), at+len(b)
	}
	if next != p.Next || time != p.MaxTime {
		return bad("it ends at offset %d, with a highest timestamp of %d", next, time)
	}
	return blocks, nil
}
