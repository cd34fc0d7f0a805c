package journal

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/crc"
)

// Every object of a journal has one shape (FORMAT.md): a fixed part, then
// entries. Numbers are big-endian.
const (
	magic     = "WEIR"
	version   = 2
	fixedSize = 64
	entrySize = 6 // kind, length

	offCRC     = 4 // of everything after it
	offVersion = 8
	offType    = 9
	offFlags   = 10
	offOpen    = 11
	offShard   = 12
	offEpoch   = 16
	offSlot    = 24
	offAuthor  = 32
	offNonce   = 40
	offCount   = 56
	offLength  = 60
)

type objectType uint8

const (
	typeClaim objectType = iota + 1
	typeHeader
	typeData
	typeSeal
	typeCheckpoint
	typeTombstone
	typeClosing
	typeAsk
)

func (t objectType) String() string {
	switch t {
	case typeClaim:
		return "CLAIM"
	case typeHeader:
		return "HEADER"
	case typeData:
		return "DATA"
	case typeSeal:
		return "SEAL"
	case typeCheckpoint:
		return "CHECKPOINT"
	case typeTombstone:
		return "TOMBSTONE"
	case typeClosing:
		return "CLOSING"
	case typeAsk:
		return "ASK"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Kinds of the entries of claims, headers and checkpoints. The kinds of DATA
// belong to the State.
const (
	kindNode = 1 // claim, ask: the node's name
	kindInfo = 2 // claim: Options.Info

	kindStart = 1 // header, checkpoint: entries before it, start checkpoint
	kindSeals = 2 // header, checkpoint: what is deleted, the SEALs since
	kindState = 3 // checkpoint: the body from the State
)

// object is a decoded claim, header, DATA, SEAL, checkpoint, tombstone, closing or ask.
type object struct {
	typ     objectType
	shard   uint32
	pos     Position // what the key says; the slot of a claim is 0
	author  uint64   // the epoch of the writer; may be above pos.Epoch in a SEAL and a tombstone
	nonce   [16]byte // of the author's claim
	open    uint8    // DATA, or a SEAL by the owner of its epoch: 1 + the number of slots before it that were not acknowledged when it was written; 0: not recorded
	entries []Entry
}

// slotSize returns the size of the object that holds entries.
func slotSize(entries []Entry) (int, error) {
	size := fixedSize
	for i := range entries {
		if n := len(entries[i].Body); n > MaxSlot {
			return 0, fmt.Errorf("%w: entry of %d bytes in a slot of at most %d", ErrTooLarge, n, MaxSlot)
		}
		if size += entrySize + len(entries[i].Body); size > MaxSlot {
			return 0, fmt.Errorf("%w: %d entries in a slot of at most %d bytes", ErrTooLarge, len(entries), MaxSlot)
		}
	}
	return size, nil
}

// size returns the size of the encoded object.
func (o *object) size() int {
	size := fixedSize
	for i := range o.entries {
		size += entrySize + len(o.entries[i].Body)
	}
	return size
}

// Laid is a slot whose entries are laid out in one piece of memory: it begins with Room
// bytes, and each entry is EntryRoom bytes and its body. WriteInPlace writes it without
// another copy.
type Laid struct {
	Bytes []byte

	// Clear is set before the slot is applied: the journal and the bucket no longer refer
	// to Bytes. Otherwise an attempt to store the slot that has failed may still be
	// sending them.
	Clear bool
}

// Room and EntryRoom are the bytes that the journal fills in: at the beginning of a slot,
// and before the body of each entry.
const (
	Room      = fixedSize
	EntryRoom = entrySize
)

// inPlace reports whether p is entries as Laid says.
func inPlace(p []byte, entries []Entry) bool {
	at := fixedSize
	for i := range entries {
		at += entrySize
		body := entries[i].Body
		if at+len(body) > len(p) || len(body) > 0 && &p[at] != &body[0] {
			return false
		}
		at += len(body)
	}
	return at == len(p)
}

// encode returns the object's bytes, in one allocation, and sets At of every
// entry. The entries must fit (slotSize).
func (o *object) encode() []byte {
	p, _ := o.encodeTo(nil)
	return p
}

// encodeTo is encode into the memory of p, if that is large enough. sum is the CRC32C
// of raw.
func (o *object) encodeTo(p []byte) (raw []byte, sum uint32) {
	size := o.size()
	p = slices.Grow(p[:0], size)[:fixedSize]
	o.encodeFixed(p, size)
	for i := range o.entries {
		e := &o.entries[i]
		p = o.appendHead(p, e)
		e.At = int64(len(p))
		p = append(p, e.Body...)
	}
	return p, o.seal(p)
}

// encodeInPlace is encodeTo for entries that are laid out in p: see inPlace.
func (o *object) encodeInPlace(p []byte) (sum uint32) {
	o.encodeFixed(p[:fixedSize], len(p))
	at := fixedSize
	for i := range o.entries {
		e := &o.entries[i]
		o.appendHead(p[:at], e)
		e.At = int64(at + entrySize)
		at += entrySize + len(e.Body)
	}
	return o.seal(p)
}

// encodeFixed encodes the fixed part of an object of size bytes, but for its checksum.
func (o *object) encodeFixed(p []byte, size int) {
	clear(p)
	copy(p, magic)
	p[offVersion] = version
	p[offType] = byte(o.typ)
	p[offOpen] = o.open
	binary.BigEndian.PutUint32(p[offShard:], o.shard)
	binary.BigEndian.PutUint64(p[offEpoch:], o.pos.Epoch)
	binary.BigEndian.PutUint64(p[offSlot:], o.pos.Slot)
	binary.BigEndian.PutUint64(p[offAuthor:], o.author)
	copy(p[offNonce:], o.nonce[:])
	binary.BigEndian.PutUint32(p[offCount:], uint32(len(o.entries)))
	binary.BigEndian.PutUint32(p[offLength:], uint32(size))
}

func (o *object) appendHead(p []byte, e *Entry) []byte {
	p = binary.BigEndian.AppendUint16(p, e.Kind)
	return binary.BigEndian.AppendUint32(p, uint32(len(e.Body)))
}

// seal sets the checksum of an object that is otherwise complete. It returns the CRC32C of
// all of it.
func (o *object) seal(p []byte) uint32 {
	sum := crc.Sum(p[offVersion:fixedSize])
	for i := range o.entries {
		e := &o.entries[i]
		end := e.At + int64(len(e.Body))
		if e.Summed {
			sum = crc.Update(sum, p[e.At-entrySize:e.At])
			sum = crc.Join(sum, e.Sum, len(e.Body))
		} else {
			sum = crc.Update(sum, p[e.At-entrySize:end])
		}
	}
	binary.BigEndian.PutUint32(p[offCRC:], sum)
	return crc.Join(crc.Sum(p[:offVersion]), sum, len(p)-offVersion)
}

// decode is the inverse of encode and accepts only what encode makes. The bodies point
// into p. The error is ErrCorrupt, or ErrFormat for an intact object of a later
// version.
func decode(p []byte) (object, error) {
	switch {
	case len(p) < fixedSize || len(p) > MaxCheckpoint:
		return object{}, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(p))
	case string(p[:offCRC]) != magic:
		return object{}, fmt.Errorf("%w: no magic", ErrCorrupt)
	case binary.BigEndian.Uint32(p[offCRC:]) != crc.Sum(p[offVersion:]):
		return object{}, fmt.Errorf("%w: checksum", ErrCorrupt)
	case p[offVersion] != version:
		return object{}, fmt.Errorf("%w: version %d, this one knows %d", ErrFormat, p[offVersion], version)
	}
	o := object{
		typ:    objectType(p[offType]),
		shard:  binary.BigEndian.Uint32(p[offShard:]),
		pos:    Position{binary.BigEndian.Uint64(p[offEpoch:]), binary.BigEndian.Uint64(p[offSlot:])},
		author: binary.BigEndian.Uint64(p[offAuthor:]),
		nonce:  [16]byte(p[offNonce:offCount]),
		open:   p[offOpen],
	}
	if p[offFlags] != 0 || o.open != 0 && o.typ != typeData && !o.yields() || o.typ < typeClaim || o.typ > typeAsk {
		return object{}, fmt.Errorf("%w: %v with flags %#x", ErrFormat, o.typ, p[offFlags:offFlags+2])
	}
	if len(p) > MaxSlot && o.typ != typeCheckpoint {
		return object{}, fmt.Errorf("%w: %v of %d bytes", ErrCorrupt, o.typ, len(p))
	}
	if n := binary.BigEndian.Uint32(p[offLength:]); int64(n) != int64(len(p)) {
		return object{}, fmt.Errorf("%w: %d bytes instead of %d", ErrCorrupt, len(p), n)
	}
	var err error
	if o.entries, err = decodeEntries(p, binary.BigEndian.Uint32(p[offCount:])); err != nil {
		return object{}, err
	}
	return o, o.check()
}

func decodeEntries(p []byte, count uint32) ([]Entry, error) {
	if int64(count)*entrySize > int64(len(p)-fixedSize) {
		return nil, fmt.Errorf("%w: %d entries in %d bytes", ErrCorrupt, count, len(p))
	}
	entries := make([]Entry, count)
	at := fixedSize
	for i := range entries {
		if len(p)-at < entrySize {
			return nil, fmt.Errorf("%w: entry %d is cut off", ErrCorrupt, i)
		}
		kind, n := binary.BigEndian.Uint16(p[at:]), binary.BigEndian.Uint32(p[at+2:])
		at += entrySize
		if int64(n) > int64(len(p)-at) {
			return nil, fmt.Errorf("%w: entry %d is cut off", ErrCorrupt, i)
		}
		end := at + int(n)
		entries[i] = Entry{Kind: kind, Body: p[at:end:end], At: int64(at)}
		at = end
	}
	if at != len(p) {
		return nil, fmt.Errorf("%w: %d bytes after the last entry", ErrCorrupt, len(p)-at)
	}
	return entries, nil
}

// isSeal reports whether an object that may be damaged says that it is a SEAL.
func isSeal(p []byte) bool { return len(p) > offType && objectType(p[offType]) == typeSeal }

// sealedBy returns the epoch whose owner or claimant has made a SEAL, by its fixed part.
func sealedBy(p []byte) uint64 {
	if len(p) < fixedSize {
		return 0
	}
	return binary.BigEndian.Uint64(p[offAuthor:])
}

// check checks what must hold for an object at any position.
func (o *object) check() error {
	ok := o.pos.Epoch > 0 && o.author == o.pos.Epoch
	switch o.typ {
	case typeClaim, typeHeader:
		ok = ok && o.pos.Slot == 0
	case typeData:
		ok = ok && o.pos.Slot > 0 && uint64(o.open) <= o.pos.Slot
	case typeCheckpoint:
		ok = ok && o.pos.Slot > 0
	case typeClosing:
		ok = ok && o.pos.Slot > 0 && len(o.entries) == 0
	case typeAsk:
		ok = ok && o.pos.Slot > 0
	case typeSeal:
		ok = o.pos.Epoch > 0 && len(o.entries) == 0 && (o.author > o.pos.Epoch || o.yields() && o.pos.Slot > 0 && o.open > 0 && uint64(o.open) <= o.pos.Slot)
	case typeTombstone:
		ok = o.pos.Epoch > 0 && o.author >= o.pos.Epoch && len(o.entries) == 0
	}
	if !ok {
		return fmt.Errorf("%w: %v at %v by epoch %d with %d entries", ErrCorrupt, o.typ, o.pos, o.author, len(o.entries))
	}
	return nil
}

// yields reports whether o is a SEAL by the owner of its own epoch.
func (o *object) yields() bool { return o.typ == typeSeal && o.author == o.pos.Epoch }

// dataObject is the DATA of a slot.
func dataObject(shard uint32, c Claim, slot uint64, entries []Entry) object {
	return object{
		typ: typeData, shard: shard, pos: Position{c.Epoch, slot},
		author: c.Epoch, nonce: c.Nonce, entries: entries,
	}
}

// sealObject is the SEAL that claim c puts into the first free slot of an
// earlier epoch.
func sealObject(shard uint32, c Claim, pos Position) object {
	return object{typ: typeSeal, shard: shard, pos: pos, author: c.Epoch, nonce: c.Nonce}
}

// yieldObject is the SEAL that the owner with claim c puts at the end of its epoch.
func yieldObject(shard uint32, c Claim, slot uint64, open uint8) object {
	o := sealObject(shard, c, Position{c.Epoch, slot})
	o.open = open
	return o
}

// tombstoneObject is the tombstone that the owner with claim c puts at pos.
func tombstoneObject(shard uint32, c Claim, pos Position) object {
	return object{typ: typeTombstone, shard: shard, pos: pos, author: c.Epoch, nonce: c.Nonce}
}

// closingObject says that claim c's slots before pos are acknowledged, and that it
// wrote no others.
func closingObject(shard uint32, c Claim, pos Position) object {
	return object{typ: typeClosing, shard: shard, pos: pos, author: c.Epoch, nonce: c.Nonce}
}

// askObject is the question of a node to the owner of pos's epoch.
func askObject(shard uint32, pos Position, node string) object {
	return object{
		typ: typeAsk, shard: shard, pos: pos, author: pos.Epoch,
		entries: []Entry{{Kind: kindNode, Body: []byte(node)}},
	}
}

func (c Claim) encode(shard uint32) []byte {
	o := object{
		typ: typeClaim, shard: shard, pos: Position{Epoch: c.Epoch}, author: c.Epoch, nonce: c.Nonce,
		entries: []Entry{{Kind: kindNode, Body: []byte(c.Node)}, {Kind: kindInfo, Body: c.Info}},
	}
	return o.encode()
}

// decodeClaim reads the claim of an epoch.
func decodeClaim(p []byte, shard uint32, epoch uint64) (Claim, error) {
	o, err := decode(p)
	if err != nil {
		return Claim{}, err
	}
	if o.typ != typeClaim || o.shard != shard || o.pos.Epoch != epoch {
		return Claim{}, fmt.Errorf("%w: %v of epoch %d in shard %d", ErrCorrupt, o.typ, o.pos.Epoch, o.shard)
	}
	if len(o.entries) != 2 || o.entries[0].Kind != kindNode || o.entries[1].Kind != kindInfo {
		return Claim{}, fmt.Errorf("%w: entries of a claim", ErrFormat)
	}
	return Claim{Epoch: epoch, Nonce: o.nonce, Node: string(o.entries[0].Body), Info: o.entries[1].Body}, nil
}

// header returns the bytes of the header of claim c, whose holder's way is y.
func (c Claim) header(shard uint32, y way) []byte {
	o := object{
		typ: typeHeader, shard: shard, pos: Position{Epoch: c.Epoch}, author: c.Epoch, nonce: c.Nonce,
		entries: y.encode(),
	}
	return o.encode()
}

// checkpoint is the state before a slot.
type checkpoint struct {
	pos   Position
	nonce [16]byte // of the owner of its epoch
	way   way
	body  []byte
}

// checkpointObject is the checkpoint that the holder of claim c makes.
func checkpointObject(shard uint32, c Claim, p checkpoint) object {
	return object{
		typ: typeCheckpoint, shard: shard, pos: p.pos, author: c.Epoch, nonce: c.Nonce,
		entries: append(p.way.encode(), Entry{Kind: kindState, Body: p.body}),
	}
}

// decodeCheckpoint reads the checkpoint before pos. Its body points into raw.
func decodeCheckpoint(raw []byte, shard uint32, pos Position) (checkpoint, error) {
	o, err := decode(raw)
	if err != nil {
		return checkpoint{}, err
	}
	if o.typ != typeCheckpoint || o.shard != shard || o.pos != pos {
		return checkpoint{}, fmt.Errorf("%w: %v at %v of shard %d", ErrCorrupt, o.typ, o.pos, o.shard)
	}
	if len(o.entries) != 3 || o.entries[2].Kind != kindState {
		return checkpoint{}, fmt.Errorf("%w: entries of a checkpoint", ErrFormat)
	}
	y, err := decodeWay(o.entries[:2], pos)
	return checkpoint{pos: pos, nonce: o.nonce, way: y, body: o.entries[2].Body}, err
}
