package model

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/journal"
)

// The objects of a journal, encoded as FORMAT.md says, without the journal's code.

const shard = 3

const (
	typeClaim = iota + 1
	typeHeader
	typeData
	typeSeal
	typeCheckpoint
	typeTombstone
)

func claimKey(epoch int) string { return fmt.Sprintf("%04d/epoch/%020d", shard, epoch) }

func saveKey(p position) string {
	return fmt.Sprintf("%04d/checkpoint/%020d-%020d", shard, p.epoch(), p.slot())
}

func tombstoneKey(p position) string {
	return fmt.Sprintf("%04d/tombstone/%020d-%020d", shard, p.epoch(), p.slot())
}

func slotKey(p position) string {
	return journal.SlotKey(shard, journal.Position{Epoch: uint64(p.epoch()), Slot: uint64(p.slot())})
}

const (
	claimPrefix      = "0003/epoch/"
	checkpointPrefix = "0003/checkpoint/"
	tombstonePrefix  = "0003/tombstone/"
	closingPrefix    = "0003/closed/"
	logPrefix        = "0003/log/"
)

// object returns the bytes of an object. The entries are kinds and bodies, in
// turn.
func object(typ int, p position, author int, nonce [16]byte, entries ...any) []byte {
	b := append([]byte("WEIR\x00\x00\x00\x00\x02"), byte(typ), 0, 0)
	b = binary.BigEndian.AppendUint32(b, shard)
	b = binary.BigEndian.AppendUint64(b, uint64(p.epoch()))
	b = binary.BigEndian.AppendUint64(b, uint64(p.slot()))
	b = binary.BigEndian.AppendUint64(b, uint64(author))
	b = append(b, nonce[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)/2))
	b = append(b, 0, 0, 0, 0)
	for i := 0; i < len(entries); i += 2 {
		body := entries[i+1].([]byte)
		b = binary.BigEndian.AppendUint16(b, uint16(entries[i].(int)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
		b = append(b, body...)
	}
	binary.BigEndian.PutUint32(b[60:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[4:], crc.Sum(b[8:]))
	return b
}

func claimObject(epoch int, nonce [16]byte) []byte {
	return object(typeClaim, at(epoch, 0), epoch, nonce, 1, []byte("somebody"), 2, []byte{})
}

// way returns the two entries that say how a node came to p that has started
// at the beginning.
func way(p position, v view) (start, seals []byte) {
	before := entries(p.slot())
	seals = append(binary.BigEndian.AppendUint64(nil, 1), make([]byte, 8)...)
	for e := 1; e < p.epoch(); e++ {
		before += entries(v.cut(e))
		seals = binary.BigEndian.AppendUint64(seals, uint64(v.cut(e)))
	}
	return append(binary.BigEndian.AppendUint64(nil, uint64(before)), make([]byte, 16)...), seals
}

func headerObject(epoch int, nonce [16]byte, v view) []byte {
	start, seals := way(at(epoch, 0), v)
	return object(typeHeader, at(epoch, 0), epoch, nonce, 1, start, 2, seals)
}

func saveObject(p position, nonce [16]byte, v view) []byte {
	start, seals := way(p, v)
	return object(typeCheckpoint, p, p.epoch(), nonce, 1, start, 2, seals, 3, stateBody(logOf(v, p)))
}

// kind and body are those of the one entry that each slot of DATA has.
const kind = 7

func body(p position) []byte { return fmt.Appendf(nil, "%d.%d", p.epoch(), p.slot()) }

// logOf returns the bodies of the log before p.
func logOf(v view, p position) (log []string) {
	for e := 1; e <= p.epoch(); e++ {
		cut := p.slot()
		if e < p.epoch() {
			cut = v.cut(e)
		}
		for slot := 1; slot < cut; slot++ {
			log = append(log, string(body(at(e, slot))))
		}
	}
	return log
}

func stateBody(log []string) []byte { return []byte(strings.Join(log, " ")) }

func dataObject(p position, nonce [16]byte) []byte {
	return object(typeData, p, p.epoch(), nonce, kind, body(p))
}

func sealObject(p position, author int, nonce [16]byte) []byte {
	return object(typeSeal, p, author, nonce)
}

// yieldObject is the SEAL of the owner, sent when so many slots before it were in flight.
func yieldObject(p position, nonce [16]byte, flying int) []byte {
	b := object(typeSeal, p, p.epoch(), nonce)
	b[11] = byte(1 + flying)
	binary.BigEndian.PutUint32(b[4:], crc.Sum(b[8:]))
	return b
}

func tombstoneObject(p position, author int, nonce [16]byte) []byte {
	return object(typeTombstone, p, author, nonce)
}

// typeOf and authorOf read an object's fields.
func typeOf(object []byte) int   { return int(object[9]) }
func authorOf(object []byte) int { return int(binary.BigEndian.Uint64(object[32:])) }
func nonceOf(object []byte) [16]byte {
	return [16]byte(object[40:56])
}
