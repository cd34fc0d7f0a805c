package commitlog

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/weirmq/weir/storage/record"
)

// setFlag sets a bit of a batch's attributes.
func setFlag(b record.Batch, bit byte) {
	b[22] |= bit
	reseal(b)
}

// reseal makes the CRC of a batch match again.
func reseal(b record.Batch) {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
}
