package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/mem"
)

var testNonce = [16]byte{0: 0xa0, 15: 0xaf}

func testClaim(epoch uint64) Claim {
	return Claim{Epoch: epoch, Nonce: testNonce, Node: "north", Info: []byte(`{"kafka":"h:1"}`)}
}

// samples are one object of each type, for round trips, goldens and the fuzzer.
func samples() map[string][]byte {
	seal := sealObject(7, testClaim(5), Position{3, 9})
	yield := yieldObject(7, testClaim(5), 10, 3)
	tombstone := tombstoneObject(7, testClaim(5), Position{3, 8})
	data := dataObject(7, testClaim(5), 2, []Entry{{Kind: 1, Body: []byte("one")}, {Kind: 65535}, {Kind: 0, Body: make([]byte, 300)}})
	empty := dataObject(7, testClaim(5), 3, nil)
	open := dataObject(7, testClaim(5), 9, []Entry{{Kind: 4, Body: []byte("two")}})
	open.open = 3
	question := askObject(7, Position{5, 2}, "south")
	closing := closingObject(7, testClaim(5), Position{5, 10})
	saved := checkpointObject(7, testClaim(5), testCheckpoint)
	return map[string][]byte{
		"claim":      testClaim(5).encode(7),
		"header":     testClaim(5).header(7, way{entries: 12, oldest: beginning, seals: []uint64{4, 0, 9, 1}}),
		"resumed":    testClaim(5).header(7, testCheckpoint.way),
		"data":       data.encode(),
		"empty":      empty.encode(),
		"open":       open.encode(),
		"closing":    closing.encode(),
		"ask":        question.encode(),
		"seal":       seal.encode(),
		"yield":      yield.encode(),
		"checkpoint": saved.encode(),
		"tombstone":  tombstone.encode(),
	}
}

var testCheckpoint = checkpoint{
	pos: Position{5, 3}, nonce: testNonce, body: []byte("state"),
	way: way{entries: 1 << 40, start: Position{4, 7}, oldest: Position{3, 2}, seals: []uint64{9, 12}},
}

func TestSlotRoundTrip(t *testing.T) {
	for name, raw := range samples() {
		o, err := decode(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again := o.encode(); !bytes.Equal(again, raw) {
			t.Errorf("%s: encoded %x, decoded and encoded again %x", name, raw, again)
		}
		for i, e := range o.entries {
			if at := raw[e.At:]; !bytes.HasPrefix(at, e.Body) {
				t.Errorf("%s: entry %d is not at %d", name, i, e.At)
			}
		}
	}
	c, err := decodeClaim(samples()["claim"], 7, 5)
	if err != nil || !reflect.DeepEqual(c, testClaim(5)) {
		t.Errorf("claim: %+v, %v", c, err)
	}
	o, _ := decode(samples()["header"])
	if y, err := decodeWay(o.entries, o.pos); err != nil || !reflect.DeepEqual(y, way{12, Position{}, beginning, []uint64{4, 0, 9, 1}}) {
		t.Errorf("header: %+v, %v", y, err)
	}
	o, _ = decode(samples()["resumed"])
	if y, err := decodeWay(o.entries, o.pos); err != nil || !reflect.DeepEqual(y, testCheckpoint.way) {
		t.Errorf("header: %+v, %v", y, err)
	}
	p, err := decodeCheckpoint(samples()["checkpoint"], 7, testCheckpoint.pos)
	if err != nil || !reflect.DeepEqual(p, testCheckpoint) {
		t.Errorf("checkpoint: %+v, %v", p, err)
	}
}

// TestSlotGolden pins the bytes that FORMAT.md describes.
func TestSlotGolden(t *testing.T) {
	for name, raw := range samples() {
		file := filepath.Join("testdata", name+".hex")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if !bytes.Equal(raw, want) {
			t.Errorf("%s is now\n%s", file, hex.Dump(raw))
		}
	}
}

func TestSlotFlippedBits(t *testing.T) {
	for name, raw := range samples() {
		for i := range raw {
			for bit := range 8 {
				bad := bytes.Clone(raw)
				bad[i] ^= 1 << bit
				if _, err := decode(bad); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s, bit %d of byte %d flipped: %v", name, bit, i, err)
				}
			}
			if _, err := decode(raw[:i]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s cut to %d bytes: %v", name, i, err)
			}
		}
		if _, err := decode(append(bytes.Clone(raw), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with a byte too many: %v", name, err)
		}
	}
}

// TestSlotRefused alters fields under a checksum that is right.
func TestSlotRefused(t *testing.T) {
	for _, test := range []struct {
		name, sample string
		alter        func(p []byte)
		want         error
	}{
		{"Version", "data", func(p []byte) { p[offVersion]++ }, ErrFormat},
		{"Type", "data", func(p []byte) { p[offType] = 9 }, ErrFormat},
		{"TypeZero", "data", func(p []byte) { p[offType] = 0 }, ErrFormat},
		{"Flags", "data", func(p []byte) { p[offFlags] = 1 }, ErrFormat},
		{"OpenBeforeHeader", "open", func(p []byte) { p[offOpen] = 10 }, ErrCorrupt},
		{"OpenHeader", "header", func(p []byte) { p[offOpen] = 1 }, ErrFormat},
		{"ClosingAtHeader", "closing", func(p []byte) { clear(p[offSlot : offSlot+8]) }, ErrCorrupt},
		{"ClosingByOther", "closing", func(p []byte) { p[offAuthor+7]++ }, ErrCorrupt},
		{"Length", "data", func(p []byte) { p[offLength+3]++ }, ErrCorrupt},
		{"CountLow", "data", func(p []byte) { p[offCount+3]-- }, ErrCorrupt},
		{"CountHigh", "data", func(p []byte) { p[offCount+3]++ }, ErrCorrupt},
		{"CountHuge", "data", func(p []byte) { binary.BigEndian.PutUint32(p[offCount:], 1<<32-1) }, ErrCorrupt},
		{"BodyLength", "data", func(p []byte) { p[fixedSize+2] = 0xff }, ErrCorrupt},
		{"EpochZero", "data", func(p []byte) { clear(p[offEpoch : offEpoch+8]) }, ErrCorrupt},
		{"DataAtHeader", "data", func(p []byte) { clear(p[offSlot : offSlot+8]) }, ErrCorrupt},
		{"DataByOther", "data", func(p []byte) { p[offAuthor+7]++ }, ErrCorrupt},
		{"HeaderAtData", "header", func(p []byte) { p[offSlot+7] = 1 }, ErrCorrupt},
		{"ClaimAtData", "claim", func(p []byte) { p[offSlot+7] = 1 }, ErrCorrupt},
		{"CheckpointAtHeader", "checkpoint", func(p []byte) { clear(p[offSlot : offSlot+8]) }, ErrCorrupt},
		{"CheckpointByOther", "checkpoint", func(p []byte) { p[offAuthor+7]++ }, ErrCorrupt},
		{"SealByOwnerAtHeader", "yield", func(p []byte) { clear(p[offSlot : offSlot+8]) }, ErrCorrupt},
		{"SealByOwnerOpen", "yield", func(p []byte) { p[offOpen] = 0 }, ErrCorrupt},
		{"SealOpen", "seal", func(p []byte) { p[offOpen] = 1 }, ErrFormat},
		{"SealByEarlier", "seal", func(p []byte) { clear(p[offAuthor : offAuthor+8]) }, ErrCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := samples()[test.sample]
			test.alter(p)
			if _, err := decode(rechecked(p)); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// TestCheckpointAltered alters what lies in a checkpoint, or asks for another.
func TestCheckpointAltered(t *testing.T) {
	const start, seals, state = fixedSize, fixedSize + 30, fixedSize + 30 + 38 // its entries
	for _, test := range []struct {
		name  string
		alter func(p []byte)
		want  error
	}{
		{"Shard", func(p []byte) { p[offShard+3]++ }, ErrCorrupt},
		{"Slot", func(p []byte) { p[offSlot+7]++ }, ErrCorrupt},
		{"Epoch", func(p []byte) { p[offEpoch+7]++; p[offAuthor+7]++ }, ErrCorrupt},
		{"Type", func(p []byte) { p[offType] = byte(typeData) }, ErrCorrupt},
		{"Kinds", func(p []byte) { p[start+1]++ }, ErrFormat},
		{"StateKind", func(p []byte) { p[state+1]++ }, ErrFormat},
		{"StartAtSelf", func(p []byte) { p[start+6+15], p[start+6+23] = 5, 3 }, ErrCorrupt},
		{"StartAtHeader", func(p []byte) { p[start+6+23] = 0 }, ErrCorrupt},
		{"StartDeleted", func(p []byte) { p[start+6+15], p[start+6+23] = 3, 1 }, ErrCorrupt},
		{"DeletedWithoutStart", func(p []byte) { clear(p[start+6+8 : start+6+24]) }, ErrCorrupt},
		{"OldestZero", func(p []byte) { clear(p[seals+6 : seals+6+16]) }, ErrCorrupt},
		{"OldestLater", func(p []byte) { p[seals+6+7] = 6 }, ErrCorrupt},
		{"SealTooFew", func(p []byte) { p[seals+6+7] = 2 }, ErrCorrupt},
		{"SealTooMany", func(p []byte) { p[seals+6+7] = 4 }, ErrCorrupt},
		{"SealsCut", func(p []byte) { p[seals+5], p[state+5] = p[seals+5]-8, p[state+5]+8 }, ErrCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := samples()["checkpoint"]
			test.alter(p)
			if c, err := decodeCheckpoint(rechecked(p), 7, testCheckpoint.pos); !errors.Is(err, test.want) {
				t.Errorf("got %+v, %v, want %v", c, err, test.want)
			}
		})
	}
}

// TestWay: two ways to a place are one if what both know is the same.
func TestWay(t *testing.T) {
	old := way{entries: 9, oldest: Position{2, 5}, seals: []uint64{7, 0, 3}}
	for _, test := range []struct {
		name  string
		other way
		want  bool
	}{
		{"Same", old, true},
		{"Younger", way{entries: 9, start: Position{4, 1}, oldest: Position{4, 0}, seals: []uint64{3}}, true},
		{"Youngest", way{entries: 9, oldest: Position{5, 0}}, true},
		{"Older", way{entries: 9, oldest: beginning, seals: []uint64{1, 7, 0, 3}}, true},
		{"OtherCount", way{entries: 8, oldest: Position{5, 0}}, false},
		{"OtherSeal", way{entries: 9, oldest: Position{3, 0}, seals: []uint64{1, 3}}, false},
	} {
		if old.agrees(test.other) != test.want || test.other.agrees(old) != test.want {
			t.Errorf("%s: not %v", test.name, test.want)
		}
	}
	y := old
	y.start = Position{4, 7}
	for _, test := range []struct {
		before, oldest Position
		seals          []uint64
	}{
		{Position{1, 9}, Position{2, 5}, []uint64{7, 0, 3}},
		{Position{2, 6}, Position{2, 6}, []uint64{7, 0, 3}},
		{Position{4, 2}, Position{4, 2}, []uint64{3}},
		{Position{5, 0}, Position{4, 7}, []uint64{3}},
	} {
		if y.truncate(test.before); y.oldest != test.oldest || !slices.Equal(y.seals, test.seals) {
			t.Errorf("forgot what is before %v: %+v", test.before, y)
		}
	}
}

func TestSlotSize(t *testing.T) {
	fits := []Entry{{Body: make([]byte, MaxSlot-SlotOverhead-2*EntryOverhead)}, {}}
	if n, err := slotSize(fits); err != nil || n != MaxSlot {
		t.Errorf("largest slot: %d, %v", n, err)
	}
	o := dataObject(0, testClaim(1), 1, fits)
	if _, err := decode(o.encode()); err != nil {
		t.Errorf("largest slot: %v", err)
	}
	if _, err := slotSize(append(fits, Entry{})); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one entry more: %v", err)
	}
	if _, err := slotSize([]Entry{{Body: make([]byte, MaxSlot+1)}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("huge body: %v", err)
	}
	o = dataObject(0, testClaim(1), 1, append(fits, Entry{}))
	if _, err := decode(o.encode()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("DATA that is too large: %v", err)
	}
}

func TestKeys(t *testing.T) {
	if key := SlotKey(7, Position{12, 345}); key != "0007/log/00000000000000000012/00000000000000000345" {
		t.Error(key)
	}
	if key := claimKey(9999, 1<<64-1); key != "9999/epoch/18446744073709551615" {
		t.Error(key)
	}
	for _, bad := range []string{"x", "1", strings.Repeat("9", 20), strings.Repeat("0", 20), "+0000000000000000001", "00000000000000000001.tmp"} {
		if e, err := parseClaim(3, claimPrefix(3)+bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("claim key %q: epoch %d, %v", bad, e, err)
		}
	}
	if p, ok := parseCheckpoint(3, "0003/checkpoint/00000000000000000002-00000000000000000007"); !ok || p != (Position{2, 7}) {
		t.Errorf("checkpoint %v, %v", p, ok)
	}
	if p, ok := parseCheckpoint(3, checkpointKey(3, Position{1<<64 - 1, 1})); !ok || p != (Position{1<<64 - 1, 1}) {
		t.Errorf("checkpoint %v, %v", p, ok)
	}
	for _, p := range []Position{{0, 1}, {1, 0}} {
		if _, ok := parseCheckpoint(3, checkpointKey(3, p)); ok {
			t.Errorf("a checkpoint at %v", p)
		}
	}
}

// FuzzDecodeSlot gives the decoder any bytes, as they are and with their
// checksum put right. What it takes it must be able to write again.
func FuzzDecodeSlot(f *testing.F) {
	for _, raw := range samples() {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		try := func(p []byte) {
			o, err := decode(p)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
					t.Fatalf("unnamed error %v", err)
				}
				return
			}
			if again := o.encode(); !bytes.Equal(again, p) {
				t.Fatalf("decoded %x, encoded %x", p, again)
			}
			switch o.typ {
			case typeClaim:
				c, err := decodeClaim(p, o.shard, o.pos.Epoch)
				if err == nil && !bytes.Equal(c.encode(o.shard), p) {
					t.Fatalf("claim %+v of %x", c, p)
				}
			case typeHeader:
				y, err := decodeWay(o.entries, o.pos)
				if err == nil && !bytes.Equal(Claim{Epoch: o.author, Nonce: o.nonce}.header(o.shard, y), p) {
					t.Fatalf("header %+v of %x", y, p)
				}
			}
		}
		try(p)
		if len(p) >= fixedSize {
			try(rechecked(bytes.Clone(p)))
		}
	})
}

// FuzzDecodeCheckpoint gives the decoder objects that are whole, with anything in
// the entries of a checkpoint. What it takes is a way that can be compared, and
// can be written again.
func FuzzDecodeCheckpoint(f *testing.F) {
	c := testCheckpoint
	y := c.way.encode()
	f.Add(c.pos.Epoch, c.pos.Slot, uint16(kindState), y[0].Body, y[1].Body, c.body)
	y = way{entries: 12, oldest: beginning, seals: []uint64{4, 0, 9, 1}}.encode()
	f.Add(uint64(5), uint64(1), uint16(kindState), y[0].Body, y[1].Body, []byte{})
	f.Fuzz(func(t *testing.T, epoch, slot uint64, kind uint16, start, seals, body []byte) {
		pos := Position{epoch, slot}
		o := object{typ: typeCheckpoint, shard: 7, pos: pos, author: epoch, nonce: testNonce, entries: []Entry{
			{Kind: kindStart, Body: start}, {Kind: kindSeals, Body: seals}, {Kind: kind, Body: body},
		}}
		raw := o.encode()
		c, err := decodeCheckpoint(raw, 7, pos)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		again := checkpointObject(7, Claim{Epoch: epoch, Nonce: testNonce}, c)
		if !bytes.Equal(again.encode(), raw) || !bytes.Equal(c.body, body) {
			t.Fatalf("checkpoint %+v of %x", c, raw)
		}
		for _, before := range []Position{{}, c.way.oldest, c.way.start, {epoch / 2, slot}, pos} {
			y := c.way
			y.truncate(before)
			if err := y.check(pos); err != nil || !y.agrees(c.way) {
				t.Fatalf("%+v without what is before %v: %+v, %v", c.way, before, y, err)
			}
		}
	})
}

// rechecked puts magic, length and checksum of p right.
func rechecked(p []byte) []byte {
	copy(p, magic)
	if l := binary.BigEndian.Uint32(p[offLength:]); l>>16 == 0xffff {
		binary.BigEndian.PutUint32(p[offLength:], uint32(len(p)))
	}
	binary.BigEndian.PutUint32(p[offCRC:], crc.Sum(p[offVersion:]))
	return p
}

// TestSlotSum: a slot is the same whether the sums of its bodies were given or not, and
// encodeTo tells the sum of all of it.
func TestSlotSum(t *testing.T) {
	claim := testClaim(3)
	var plain, summed []Entry
	for _, size := range []int{0, 1, 100, 20_000, 300_000} {
		body := bytes.Repeat([]byte("weir "), size)[:size]
		plain = append(plain, Entry{Kind: 7, Body: body})
		summed = append(summed, Entry{Kind: 7, Body: body, Sum: crc.Sum(body), Summed: size != 100})
	}
	a, b := dataObject(0, claim, 5, plain), dataObject(0, claim, 5, summed)
	want, _ := a.encodeTo(nil)
	got, sum := b.encodeTo(nil)
	if !bytes.Equal(got, want) {
		t.Error("the bytes differ")
	}
	if all := crc.Sum(got); sum != all {
		t.Errorf("sum %08x, want %08x", sum, all)
	}
}

// TestInPlace: entries that are laid out in memory become the same object as any others,
// without a copy. Memory with anything else in it is not written.
func TestInPlace(t *testing.T) {
	bodies := []string{"one", "", strings.Repeat("x", 5000), "four"}
	lay := func() (p []byte, entries []Entry) {
		p = make([]byte, Room, 6000)
		for i, body := range bodies {
			at := len(p) + EntryRoom
			p = append(p[:at], body...)
			e := Entry{Kind: uint16(i + 7), Body: p[at:]}
			if i%2 == 0 {
				e.Sum, e.Summed = crc.Sum(e.Body), true
			}
			entries = append(entries, e)
		}
		return p, entries
	}
	p, entries := lay()
	if !inPlace(p, entries) || inPlace(p[:len(p)-1], entries) || inPlace(append(p, 0), entries) || inPlace(p, entries[1:]) {
		t.Error("entries are taken for laid out, or not")
	}
	moved := slices.Clone(entries)
	moved[2].Body = slices.Clone(moved[2].Body)
	if inPlace(p, moved) || inPlace(nil, nil) || !inPlace(make([]byte, Room), nil) {
		t.Error("entries elsewhere are taken for laid out")
	}
	c := Claim{Epoch: 3, Nonce: [16]byte{9}}
	there := dataObject(2, c, 5, entries)
	sum := there.encodeInPlace(p)
	copied := dataObject(2, c, 5, slices.Clone(entries))
	want, wantSum := copied.encodeTo(nil)
	if !bytes.Equal(p, want) || sum != wantSum || sum != crc.Sum(p) {
		t.Errorf("%x, sum %x, want %x, %x", p, sum, want, wantSum)
	}
	for i := range entries {
		if there.entries[i].At != copied.entries[i].At {
			t.Errorf("entry %d is at %d, want %d", i, there.entries[i].At, copied.entries[i].At)
		}
	}
}

// TestWriteInPlace: what was written so is what a reader finds.
func TestWriteInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		j := open(t, b, s)
		for _, laidOut := range []bool{true, false} {
			const at = Room + EntryRoom
			p := make([]byte, at)
			p = append(p, fmt.Sprint("in place ", laidOut)...)
			entries := []Entry{{Kind: 100, Body: p[at:]}}
			if !laidOut {
				p = p[:at]
			}
			if _, err := j.WriteInPlace(&Laid{Bytes: p}, entries); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		got := slices.Clone(s.got)
		closeClean(t, j)
		again := &book{}
		closeClean(t, open(t, b, again))
		if len(got) != 2 || !slices.Equal(again.got, got) {
			t.Errorf("%v, and then %v", got, again.got)
		}
	})
}
