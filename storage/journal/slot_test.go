package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var testNonce = [16]byte{0: 0xa0, 15: 0xaf}

func testClaim(epoch uint64) Claim {
	return Claim{Epoch: epoch, Nonce: testNonce, Node: "north", Info: []byte(`{"kafka":"h:1"}`)}
}

// samples are one object of each type, for round trips, goldens and the fuzzer.
func samples() map[string][]byte {
	seal := sealObject(7, testClaim(5), Position{3, 9})
	data := dataObject(7, testClaim(5), 2, []Entry{{Kind: 1, Body: []byte("one")}, {Kind: 65535}, {Kind: 0, Body: make([]byte, 300)}})
	empty := dataObject(7, testClaim(5), 3, nil)
	return map[string][]byte{
		"claim":  testClaim(5).encode(7),
		"header": header{entries: 12, seals: []uint64{4, 0, 9, 1}}.encode(7, testClaim(5)),
		"data":   data.encode(),
		"empty":  empty.encode(),
		"seal":   seal.encode(),
	}
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
	if h, err := decodeHeader(o); err != nil || h.entries != 12 || !reflect.DeepEqual(h.seals, []uint64{4, 0, 9, 1}) {
		t.Errorf("header: %+v, %v", h, err)
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
			bad := bytes.Clone(raw)
			bad[i] ^= 1 << (i % 8)
			if _, err := decode(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s, byte %d flipped: %v", name, i, err)
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
		{"SealByOwner", "seal", func(p []byte) { copy(p[offAuthor:], p[offEpoch:offEpoch+8]) }, ErrCorrupt},
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
				h, err := decodeHeader(o)
				if err == nil && !bytes.Equal(h.encode(o.shard, Claim{Epoch: o.author, Nonce: o.nonce}), p) {
					t.Fatalf("header %+v of %x", h, p)
				}
			}
		}
		try(p)
		if len(p) >= fixedSize {
			try(rechecked(bytes.Clone(p)))
		}
	})
}

// rechecked puts magic, length and checksum of p right.
func rechecked(p []byte) []byte {
	copy(p, magic)
	if l := binary.BigEndian.Uint32(p[offLength:]); l>>16 == 0xffff {
		binary.BigEndian.PutUint32(p[offLength:], uint32(len(p)))
	}
	binary.BigEndian.PutUint32(p[offCRC:], crc32.Checksum(p[offVersion:], castagnoli))
	return p
}
