package record

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

var compressed = []Codec{Gzip, Snappy, LZ4, Zstd}

// samples have the lengths around the block sizes, and noise with more and
// more in it that repeats: some of it is just not worth compressing.
func samples() [][]byte {
	text := []byte(strings.Repeat(`{"device":"device-07","temperature":21.5},`, 8000))
	for i := range text {
		if i%97 == 0 {
			text[i] = byte(i >> 3)
		}
	}
	var out [][]byte
	for _, n := range []int{0, 1, 15, 16, 17, 1000, 32 << 10, 32<<10 + 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 300_000} {
		out = append(out, text[:n])
	}
	noise := make([]byte, 80_000)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for every := 8; every <= 1<<15; every *= 2 {
		p := slices.Clone(noise)
		for at := every; at+8 < len(p); at += every {
			copy(p[at:], p[at-every:at-every+6])
		}
		out = append(out, p)
	}
	// What repeats comes too late to make up for the noise before it: lz4
	// calls that an error.
	late := slices.Clone(noise[:8000])
	for i := range 15 {
		late[len(late)-28+i] = 7
	}
	return append(out, noise, late)
}

func TestCodecs(t *testing.T) {
	for _, c := range compressed {
		for _, want := range samples() {
			p, err := c.deflate([]byte("before"), want)
			if err != nil || !bytes.HasPrefix(p, []byte("before")) {
				t.Fatalf("%v: %d bytes: %v", c, len(want), err)
			}
			got, err := c.inflate(nil, p[len("before"):], len(want))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v: %d bytes become %d, %v", c, len(want), len(got), err)
			}
			if len(want) == 0 {
				continue
			}
			if _, err := c.inflate(nil, p[len("before"):], len(want)-1); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%v: %d bytes with a cap of one less: %v", c, len(want), err)
			}
		}
	}
}

// TestDamage cuts compressed data everywhere and flips bits of it: an error
// or other bytes, never a panic, never more than the cap.
func TestDamage(t *testing.T) {
	want := samples()[5]
	for _, c := range compressed {
		p, err := c.deflate(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		for n := range p {
			got, err := c.inflate(nil, p[:n], len(want))
			if err == nil && bytes.Equal(got, want) {
				t.Errorf("%v: whole from %d of %d bytes", c, n, len(p))
			}
			for bit := range 8 {
				p[n] ^= 1 << bit
				got, err := c.inflate(nil, p, len(want))
				if err == nil && len(got) > len(want) {
					t.Errorf("%v: %d bytes over the cap of %d", c, len(got), len(want))
				}
				if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
					t.Errorf("%v: unnamed error %v", c, err)
				}
				p[n] ^= 1 << bit
			}
		}
	}
}

func TestGzipMembers(t *testing.T) {
	var out bytes.Buffer
	for _, part := range []string{"two ", "members"} {
		w := gzip.NewWriter(&out)
		w.Name = "a name"
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	check(t, Gzip, out.Bytes(), "two members")
}

func TestZstdFrames(t *testing.T) {
	var out bytes.Buffer
	for _, part := range []string{"two ", "frames"} {
		w, err := zstd.NewWriter(&out) // a stream: the frame does not declare its size
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	check(t, Zstd, out.Bytes(), "two frames")

	// Nor do these, of one block and of several.
	for _, want := range samples() {
		out.Reset()
		w, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(want, 1000) {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, dst := range [][]byte{nil, make([]byte, 0, 100), make([]byte, 0, len(want)), make([]byte, 0, 1<<20)} {
			got, err := inflateZstd(dst, out.Bytes(), len(want))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes into %d: %d, %v", len(want), cap(dst), len(got), err)
			}
			for _, limit := range []int{len(want) - 1, len(want) / 2, 0} {
				if _, err := inflateZstd(dst, out.Bytes(), limit); !errors.Is(err, ErrTooLarge) && len(want) > 0 {
					t.Fatalf("%d bytes with a cap of %d: %v", len(want), limit, err)
				}
			}
		}
	}

	const magic = "\x28\xb5\x2f\xfd"
	const block = "\x0b\x00\x00x" // a last one, run-length, of one byte
	for name, p := range map[string]string{
		"a content of 2^63":  magic + "\xe0\x00\x00\x00\x00\x00\x00\x00\x80" + block,
		"a content of 2^40":  magic + "\xe0\x00\x00\x00\x00\x00\x01\x00\x00" + block,
		"a content of 4 GiB": magic + "\xa0\xff\xff\xff\xff" + block,
		"a block too many":   magic + "\x20\x01" + block + block,
		"a reserved block":   magic + "\x20\x01\x0f\x00\x00x",
		"a block of 1 MiB":   magic + "\x00\x50\x03\x00\x80x",
		"no checksum":        magic + "\x24\x01" + block,
		"a cut skippable":    "\x50\x2a\x4d\x18\xff\xff\xff\xff",
	} {
		if got, err := inflateZstd(nil, []byte(p), 1<<20); !errors.Is(err, ErrCorrupt) || cap(got) > 0 {
			t.Errorf("%s: %v, %d bytes allocated", name, err, cap(got))
		}
	}
	check(t, Zstd, []byte(magic+"\x20\x01"+block+"\x50\x2a\x4d\x18\x01\x00\x00\x00?"), "x")
	window := magic + "\x00" + "\x98" + "\x01\x00\x00" // a window of 512 MiB, one empty block
	if _, err := inflateZstd(nil, []byte(window), 1<<20); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a window that no client reads: %v", err)
	}
}

func TestSnappyFramings(t *testing.T) {
	block := s2.EncodeSnappy(nil, []byte("one block"))
	check(t, Snappy, block, "one block")
	framed := func(header string, blocks ...[]byte) []byte {
		p := []byte(header)
		for _, b := range blocks {
			p = append(p, 0, 0, 0, byte(len(b)))
			p = append(p, b...)
		}
		return p
	}
	check(t, Snappy, framed(xerialHeader, block, block), "one blockone block")
	check(t, Snappy, framed(xerialMagic+"\x00\x00\x00\x02\x00\x00\x00\x01", block), "one block")
	for name, p := range map[string][]byte{
		"version 0":    framed(xerialMagic+"\x00\x00\x00\x00\x00\x00\x00\x00", block),
		"cut length":   append(framed(xerialHeader, block), 0, 0, 0),
		"cut block":    append(framed(xerialHeader, block), 0, 0, 0, 9, 1),
		"huge block":   append(framed(xerialHeader, block), 0xff, 0xff, 0xff, 0xff),
		"empty block":  append(framed(xerialHeader, block), 0, 0, 0, 0),
		"a lie":        {0xff, 0xff, 0x3f, 0, 1}, // 1 MiB of 2 bytes
		"nothing":      {},
		"not snappy":   []byte("\xff\xff\xff\xff\xff\xff"),
		"header, less": []byte(xerialMagic),
	} {
		if got, err := inflateSnappy(nil, p, 1<<20); !errors.Is(err, ErrCorrupt) || cap(got) > 1000 {
			t.Errorf("%s: %v, %d bytes allocated", name, err, cap(got))
		}
	}
}

// TestLZ4Options: everything that another writer may set, with the library's
// reader and writer as the judge.
func TestLZ4Options(t *testing.T) {
	for _, want := range samples() {
		for _, size := range []lz4.BlockSize{lz4.Block64Kb, lz4.Block256Kb, lz4.Block1Mb, lz4.Block4Mb} {
			for _, sums := range []bool{true, false} {
				var out bytes.Buffer
				w := lz4.NewWriter(&out)
				err := w.Apply(lz4.BlockSizeOption(size), lz4.BlockChecksumOption(sums), lz4.ChecksumOption(sums),
					lz4.SizeOption(uint64(len(want))), lz4.ConcurrencyOption(1))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(want); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				check(t, LZ4, out.Bytes(), string(want))
				if !sums || len(want) != 1000 {
					continue
				}
				for i := range out.Len() { // every byte is under some checksum
					p := bytes.Clone(out.Bytes())
					p[i] ^= 1
					if _, err := inflateLZ4(nil, p, 1<<20); !errors.Is(err, ErrCorrupt) {
						t.Errorf("byte %d of %d flipped: %v", i, len(p), err)
					}
				}
			}
		}
		ours := deflateLZ4(nil, want)
		var got bytes.Buffer
		if _, err := lz4.NewReader(bytes.NewReader(ours)).WriteTo(&got); err != nil || got.String() != string(want) {
			t.Fatalf("%d bytes: the library reads %d, %v", len(want), got.Len(), err)
		}
	}
}

// TestLZ4Refuses what Kafka's Java client cannot read.
func TestLZ4Refuses(t *testing.T) {
	header := func(flags, sizes byte) []byte {
		p := append([]byte(lz4Magic), flags, sizes)
		return append(p, byte(xxh32(p[4:])>>8), 0, 0, 0, 0)
	}
	check(t, LZ4, header(0x60, 0x70), "")
	for name, p := range map[string][]byte{
		"linked blocks":   header(0x40, 0x70),
		"version 2":       header(0xa0, 0x70),
		"reserved flag":   header(0x62, 0x70),
		"dictionary":      header(0x61, 0x70),
		"reserved size":   header(0x60, 0xf0),
		"block size 3":    header(0x60, 0x30),
		"legacy":          []byte("\x02\x21\x4c\x18\x00\x00\x00\x00\x00\x00\x00"),
		"skippable":       []byte("\x50\x2a\x4d\x18\x00\x00\x00\x00\x00\x00\x00"),
		"two frames":      append(header(0x60, 0x40), header(0x60, 0x40)...),
		"no end":          header(0x60, 0x40)[:7],
		"block too large": append(header(0x60, 0x40)[:7], 1, 0, 1, 0x80),
		"no content size": append([]byte(lz4Magic), 0x68, 0x40, 0),
	} {
		if _, err := inflateLZ4(nil, p, 1<<20); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

func check(t *testing.T, c Codec, p []byte, want string) {
	t.Helper()
	got, err := c.inflate(nil, p, len(want))
	if err != nil || string(got) != want {
		t.Errorf("%v: %d bytes, want %d, %v", c, len(got), len(want), err)
	}
}

// The vectors are those of xxHash's own test, over its generated bytes.
func TestXXH32(t *testing.T) {
	for text, want := range map[string]uint32{
		"":    0x02cc5d05,
		"a":   0x550d7456,
		"abc": 0x32d153ff,
		"Nobody inspects the spammish repetition": 0xe2293b2f,
	} {
		if got := xxh32([]byte(text)); got != want {
			t.Errorf("xxh32(%q) = %08x, want %08x", text, got, want)
		}
	}
}

func TestCodecNames(t *testing.T) {
	for i, want := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		if got := Codec(i).String(); got != want {
			t.Errorf("codec %d is called %q, want %q", i, got, want)
		}
	}
	if Codec(7).String() != "codec 7" || Codec(-1).String() != "codec -1" {
		t.Errorf("unknown codecs are called %v and %v", Codec(7), Codec(-1))
	}
}

// TestBuilderLimits: sizes that are too large to allocate in a test.
func TestBuilderLimits(t *testing.T) {
	for name, c := range map[string]struct {
		count int32
		size  int64
	}{
		"2 GiB in one record": {0, math.MaxInt32},
		"more than an int32":  {0, math.MaxInt64 / 2},
		"2^31 records":        {math.MaxInt32, 10},
	} {
		b := Builder{count: c.count}
		if err := b.begin(0, c.size); !errors.Is(err, ErrTooLarge) || b.count != c.count || len(b.buf) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := Builder{count: math.MaxInt32 - 1} // the last offset delta that there is
	if err := b.begin(0, 3); err != nil || b.count != math.MaxInt32 {
		t.Errorf("record number 2^31-1: %v", err)
	}
}
