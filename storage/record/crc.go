package record

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/crc"
)

// worth is the size in bytes from which crc.Join is cheaper than another pass.
const worth = 8 << 10

// ExtendCRC returns the CRC32C of a byte range, whose CRC is sum, followed by b. b must
// be a whole batch that has passed Verify: ExtendCRC uses the batch's own CRC and does
// not read its records again.
func ExtendCRC(sum uint32, b Batch) uint32 {
	if len(b) < worth {
		return crc.Update(sum, b)
	}
	sum = crc.Update(sum, b[:crcFrom])
	return crc.Join(sum, binary.BigEndian.Uint32(b[atCRC:]), len(b)-crcFrom)
}
