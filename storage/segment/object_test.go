package segment

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/crc"
)

var update = flag.Bool("update", false, "write the goldens anew")

func TestKey(t *testing.T) {
	if key := Key(7, 12, 345); key != "0007/segment/00000000000000000012/00000000000000000345" {
		t.Error(key)
	}
	if key := Key(9999, 1<<64-1, 1<<64-1); key != "9999/segment/18446744073709551615/18446744073709551615" {
		t.Error(key)
	}
}

// TestGolden pins the bytes that FORMAT.md describes.
func TestGolden(t *testing.T) {
	sampled, _ := assemble(t, sampleBlock, sample(t)...)
	empty, _ := assemble(t, BlockSize)
	for name, raw := range map[string][]byte{"sample": sampled, "empty": empty} {
		file := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(file, wrapped(raw), 0o644); err != nil {
				t.Fatal(err)
			}
		}
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

// wrapped is hex in lines of 32 bytes.
func wrapped(raw []byte) []byte {
	var text []byte
	for len(raw) > 0 {
		n := min(32, len(raw))
		text = append(hex.AppendEncode(text, raw[:n]), '\n')
		raw = raw[n:]
	}
	return text
}

// TestDamage flips every bit of an object, cuts it everywhere and appends to it.
func TestDamage(t *testing.T) {
	object, _ := assemble(t, sampleBlock, sample(t)...)
	for i := range object {
		for bit := range 8 {
			bad := bytes.Clone(object)
			bad[i] ^= 1 << bit
			if _, err := Open(bad, 7, 5, 2); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
		for _, bad := range [][]byte{object[:i], object[i+1:], append(bytes.Clone(object[:i]), object[i+1:]...)} {
			if _, err := Open(bad, 7, 5, 2); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("cut at %d: %v", i, err)
			}
		}
	}
	for _, more := range [][]byte{{0}, make([]byte, trailerSize), object[len(object)-trailerSize:], object} {
		if _, err := Open(append(bytes.Clone(object), more...), 7, 5, 2); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes too many: %v", len(more), err)
		}
	}
}

// TestRangedDamage flips every bit of what a reader gets in ranges.
func TestRangedDamage(t *testing.T) {
	object, pieces := assemble(t, sampleBlock, sample(t)...)
	for _, p := range pieces {
		index := p.indexOf(object)
		blocks, _ := read(t, object, p)
		flipped(t, index, func(raw []byte) error { _, err := p.Blocks(raw); return err })
		for _, b := range blocks {
			flipped(t, object[b.At:b.At+b.Size], func(raw []byte) error { _, err := b.Batches(raw); return err })
		}
	}
}

func flipped(t *testing.T, raw []byte, decode func([]byte) error) {
	t.Helper()
	for i := range raw {
		for bit := range 8 {
			bad := bytes.Clone(raw)
			bad[i] ^= 1 << bit
			if err := decode(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
		if err := decode(raw[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if err := decode(append(bytes.Clone(raw), 0)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a byte too many: %v", err)
	}
}

// resealed puts all checksums of an object right that can be found.
func resealed(object []byte) []byte {
	be := binary.BigEndian
	if len(object) < headerSize+trailerSize {
		return object
	}
	be.PutUint32(object[4:], crc.Sum(object[headerFrom:headerSize]))
	end := len(object) - trailerSize
	from := int64(be.Uint32(object[end:]))
	if from < headerSize || from > int64(end) {
		return object
	}
	d := coding.NewDecoder(object[from:end])
	for d.Len() >= pieceSize {
		p := decodePiece(&d)
		if p.Check() != nil || int64(p.At)+int64(p.Size) > from {
			continue
		}
		resealedIndex(p.indexOf(object))
	}
	be.PutUint32(object[end+8:], crc.Sum(object[from:end+8]))
	return object
}

func resealedIndex(raw []byte) {
	binary.BigEndian.PutUint32(raw, crc.Sum(raw[indexFrom:]))
}

// TestOpenRefuses alters fields under checksums that are right.
func TestOpenRefuses(t *testing.T) {
	object, pieces := assemble(t, sampleBlock, sample(t)...)
	end := len(object) - trailerSize
	directory := end - len(pieces)*pieceSize
	// entry is where a field of the first piece lies in the directory, head
	// where it lies in its index, both what is changed in both.
	entry := func(field int) int { return directory + field }
	head := func(field int) int {
		return int(pieces[0].At+pieces[0].Size-pieces[0].Index) + indexFrom + 1 + field
	}
	both := func(field int, by byte) func(p []byte) {
		return func(p []byte) { p[entry(field)] += by; p[head(field)] += by }
	}
	for _, c := range []struct {
		name  string
		alter func(p []byte)
		want  error
	}{
		{"nothing", func([]byte) {}, nil},
		{"version", func(p []byte) { p[8]++ }, ErrFormat},
		{"flags", func(p []byte) { p[10]++ }, ErrFormat},
		{"index version", func(p []byte) { p[head(-1)]++ }, ErrFormat},
		{"shard", func(p []byte) { p[15]++ }, ErrCorrupt},
		{"epoch", func(p []byte) { p[23]++ }, ErrCorrupt},
		{"number", func(p []byte) { p[31]++ }, ErrCorrupt},
		{"piece count", func(p []byte) { p[end+7]-- }, ErrCorrupt},
		{"directory at", func(p []byte) { p[end+3] += pieceSize }, ErrCorrupt},
		{"topic in the index", func(p []byte) { p[head(0)]++ }, ErrCorrupt},
		{"partition in the index", func(p []byte) { p[head(19)]++ }, ErrCorrupt},
		{"base in the directory", func(p []byte) { p[entry(27)]++ }, ErrCorrupt},
		{"base", both(27, 1), ErrCorrupt},
		{"next", both(35, ^byte(49)), ErrCorrupt},
		{"highest timestamp", both(43, 1), ErrCorrupt},
		{"at", both(47, 1), ErrCorrupt},
		{"size", both(51, 1), ErrCorrupt},
		{"records", both(59, 1), ErrCorrupt},
		{"negative partition", both(16, 0x80), ErrCorrupt},
		{"block count", func(p []byte) { p[head(63)]++ }, ErrCorrupt},
		{"huge block count", func(p []byte) { p[head(60)]++ }, ErrCorrupt},
		{"block size", func(p []byte) { p[head(66)]++ }, ErrCorrupt},
		{"directory before the header", func(p []byte) { copy(p[end:], []byte{0, 0, 0, 0}) }, ErrCorrupt},
	} {
		bad := bytes.Clone(object)
		c.alter(bad)
		if _, err := Open(resealed(bad), 7, 5, 2); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	for _, key := range [][3]uint64{{8, 5, 2}, {7, 6, 2}, {7, 5, 3}} {
		if _, err := Open(object, uint32(key[0]), key[1], key[2]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("opened as %v: %v", key, err)
		}
	}
}

// TestWrongReference reads an index by what is told of another piece.
func TestWrongReference(t *testing.T) {
	object, pieces := assemble(t, sampleBlock, sample(t)...)
	p := pieces[0]
	raw := p.indexOf(object)
	for name, alter := range map[string]func(p *Piece){
		"topic":     func(p *Piece) { p.Topic[15]++ },
		"partition": func(p *Piece) { p.Partition++ },
		"base":      func(p *Piece) { p.Base++ },
		"next":      func(p *Piece) { p.Next++ },
		"time":      func(p *Piece) { p.MaxTime++ },
		"at":        func(p *Piece) { p.At++ },
		"size":      func(p *Piece) { p.Size++ },
		"records":   func(p *Piece) { p.Records++ },
		"index":     func(p *Piece) { p.Index-- },
		"nothing":   func(p *Piece) { *p = Piece{} },
	} {
		wrong := p
		alter(&wrong)
		if _, err := wrong.Blocks(raw); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWrongBlock cuts intact bytes by what is told of another block.
func TestWrongBlock(t *testing.T) {
	object, pieces := assemble(t, sampleBlock, sample(t)...)
	blocks, _ := read(t, object, pieces[0])
	for i, b := range blocks {
		raw := object[b.At : b.At+b.Size]
		for name, alter := range map[string]func(b *Block){
			"base":      func(b *Block) { b.Base++ },
			"base less": func(b *Block) { b.Base-- },
			"next":      func(b *Block) { b.Next++ },
			"next less": func(b *Block) { b.Next-- },
			"size":      func(b *Block) { b.Size++ },
			"CRC":       func(b *Block) { b.CRC++ },
			"all":       func(b *Block) { *b = Block{} },
		} {
			wrong := b
			alter(&wrong)
			if _, err := wrong.Batches(raw); !errors.Is(err, ErrCorrupt) {
				t.Errorf("block %d, %s: %v", i, name, err)
			}
		}
	}
	if _, err := (Block{}).Batches(nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("no block: %v", err)
	}
}
