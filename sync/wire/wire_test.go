package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

var update = flag.Bool("update", false, "rewrite testdata/frames.golden")

func bufferID(n byte) weir.BufferID { return weir.BufferID{3: n, 11: 0xee} }

func topicID(n byte) weir.TopicID { return weir.TopicID{0: n, 15: 0xdd} }

// bounds are those of the lanes: first and last of each.
func bounds(of ...uint64) (b [weir.Lanes]weir.Bounds) {
	for i := range b {
		b[i] = weir.Bounds{First: of[2*i], Last: of[2*i+1]}
	}
	return b
}

// samples has every frame type, with every field set.
func samples() []Frame {
	buffers := []weir.Buffer{
		{ID: bufferID(1), Lanes: bounds(1, 0, 5, 9, 1<<40, 1<<41)},
		{ID: bufferID(2), Current: true, Lanes: bounds(1, 0, 1, 0, 1, 0)},
	}
	return []Frame{
		&Hello{Gateway: "gw-1", Boot: [16]byte{1, 15: 2}, Software: "weir-edge 1.0", Features: 1 << 63, Buffers: buffers},
		&Welcome{Cluster: "c", Node: "n", Time: 1700000000000, Features: 3, MaxBatch: 1 << 20, Window: 4 << 20},
		&Offer{Buffers: buffers},
		&Marks{
			Buffers: []OfferedBuffer{{bufferID(1), weir.BufferKnown, [weir.Lanes]uint64{0, 7, 1 << 50}}, {ID: bufferID(2), State: weir.BufferAside}},
			Marks:   []weir.Mark{{Buffer: bufferID(1), Lane: weir.Bulk, Topic: topicID(1), Partition: 7, Last: 1 << 50}},
			Rows:    []weir.MapRow{{Buffer: bufferID(1), Lane: weir.Bulk, Topic: topicID(1), Name: "sensors", Row: weir.Row{Partitions: 8, From: 1 << 49}}}, Final: true,
		},
		&Resolve{Name: "sensors"},
		&Topic{Name: "sensors", ID: topicID(9), Partitions: 12},
		&Topic{Name: "secret", Reason: ReasonNotAllowed, Text: "no grant"},
		&Retire{Buffer: bufferID(3)},
		&Retired{Buffer: bufferID(3)},
		&Ping{Records: 1, Bytes: 2, Age: 3},
		&Pong{Time: 4},
		&Renew{CSR: []byte("csr")},
		&Certificate{DER: []byte("der")},
		&Certificate{Reason: ReasonBusy, DER: []byte{}, Text: "later"},
		&Redirect{Addr: "node-2:7400"},
		&Goodbye{Code: CodeShutdown, Text: "bye"},
		&Status{Figures: []Figure{{FigureStarted, 1700000000000}, {FigureRecords(weir.Bulk), 7}, {65535, 1 << 63}}},
		&Append{Buffer: bufferID(1), Lane: weir.Live, Topic: topicID(1), Partition: 3, Round: 2, Row: weir.Row{Partitions: 4, From: 5}, Prev: 4, First: 5, Last: 9, Kind: KindBatch, Batch: []byte("batch")},
		&Gap{Buffer: bufferID(1), Lane: weir.Alarm, Topic: topicID(2), Partition: 0, Round: 1, Row: weir.Row{Partitions: 1, From: 1}, Prev: 2, Ranges: []Range{{3, 3}, {5, 9}}, Count: 6, Exact: true, Of: "sensors", Cause: "gone"},
		&Ack{Buffer: bufferID(1), Lane: weir.Bulk, Topic: topicID(1), Partition: 3, Last: 9},
		&Refused{Buffer: bufferID(1), Lane: weir.Live, Topic: topicID(1), Partition: 3, Round: 2, First: 5, Last: 9, Mark: 4, Reason: ReasonHole, Text: "hole"},
		&JoinRequest{Secret: [16]byte{1, 2, 3}, Gateway: "gw-1", CSR: []byte("csr")},
		&JoinResponse{Verdict: 2, Text: "spent", Certificate: []byte("cert"), CA: []byte("ca")},
	}
}

func TestRoundTrip(t *testing.T) {
	var stream bytes.Buffer
	for _, f := range samples() {
		if err := Write(&stream, f); err != nil {
			t.Fatal(err)
		}
		if got := AppendFrame(nil, f); !bytes.HasSuffix(stream.Bytes(), got) {
			t.Errorf("%T: Write and AppendFrame differ", f)
		}
	}
	for _, want := range samples() {
		got, err := Read(&stream, MaxLane)
		if err != nil {
			t.Fatalf("%T: %v", want, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if _, err := Read(&stream, MaxLane); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// TestGolden holds the bytes of the first release: a change here is another
// protocol.
func TestGolden(t *testing.T) {
	var b strings.Builder
	for _, f := range samples() {
		fmt.Fprintf(&b, "%T %s\n", f, hex.EncodeToString(AppendFrame(nil, f)))
	}
	path := filepath.Join("testdata", "frames.golden")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("frames have changed:\n%s", b.String())
	}
}

// Every prefix of a frame is an error, and so is a frame with a byte more.
func TestTruncatedAndExtended(t *testing.T) {
	for _, f := range samples() {
		whole := AppendFrame(nil, f)
		for n := 1; n < len(whole); n++ {
			if _, err := Read(bytes.NewReader(whole[:n]), MaxLane); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%T cut to %d: %v", f, n, err)
			}
		}
		body := whole[headerLen:]
		for n := range body {
			if _, err := Decode(f.Type(), body[:n]); err != nil && !errors.Is(err, ErrMalformed) {
				t.Fatalf("%T body cut to %d: %v", f, n, err)
			} else if err == nil && f.Type() != TypeAppend {
				t.Fatalf("%T body cut to %d is accepted", f, n)
			}
		}
		if f.Type() == TypeAppend {
			continue // the batch is the rest of the body
		}
		if _, err := Decode(f.Type(), append(bytes.Clone(body), 0)); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%T with a byte more: %v", f, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	app := func(change func(*Append)) Frame {
		f := &Append{Prev: 1, First: 2, Last: 3, Kind: KindBatch, Batch: []byte{1}}
		change(f)
		return f
	}
	gap := func(prev uint64, ranges ...Range) Frame { return &Gap{Prev: prev, Ranges: ranges} }
	for name, f := range map[string]Frame{
		"first at prev":      app(func(f *Append) { f.First = 1 }),
		"last before first":  app(func(f *Append) { f.Last = 1 }),
		"kind":               app(func(f *Append) { f.Kind = KindRecords }),
		"no batch":           app(func(f *Append) { f.Batch = nil }),
		"lane":               app(func(f *Append) { f.Lane = 3 }),
		"partition":          app(func(f *Append) { f.Partition = -1 }),
		"gap at prev":        gap(3, Range{3, 4}),
		"gap backwards":      gap(0, Range{3, 2}),
		"gaps overlap":       gap(0, Range{1, 3}, Range{3, 4}),
		"no ranges":          gap(0),
		"too many ranges":    gap(0, manyRanges(MaxRanges+1)...),
		"refused for naught": &Refused{},
		"refused unknown":    &Refused{Reason: 99},
		"empty topic":        &Topic{Name: "x"},
		"figures swapped":    &Status{Figures: []Figure{{2, 0}, {1, 0}}},
		"a figure twice":     &Status{Figures: []Figure{{2, 0}, {2, 0}}},
		"too many figures":   &Status{Figures: make([]Figure, MaxFigures+1)},
		"state":              &Marks{Buffers: []OfferedBuffer{{State: 9}}},
	} {
		if _, err := Read(bytes.NewReader(AppendFrame(nil, f)), MaxLane); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func manyRanges(n int) []Range {
	out := make([]Range, n)
	for i := range out {
		out[i] = Range{uint64(2*i + 1), uint64(2*i + 1)}
	}
	return out
}

// A declared length costs nothing before it is checked.
func TestTooLarge(t *testing.T) {
	head := []byte{byte(TypeAppend), 0xff, 0xff, 0xff, 0xff}
	n := testing.AllocsPerRun(10, func() {
		if _, err := ReadHeader(bytes.NewReader(head), MaxLane); !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
	})
	if n > 20 {
		t.Errorf("%v allocations", n)
	}
	for _, x := range []struct{ typ, n byte }{{0, 1}, {0x7f, 1}, {0xff, 0}} {
		if _, err := ReadHeader(bytes.NewReader([]byte{x.typ, 0, 0, 0, x.n}), MaxLane); !errors.Is(err, ErrMalformed) {
			t.Errorf("type %#x: %v", x.typ, err)
		}
	}
	lie := []byte{0xff, 0xff, 0xff, 0xff} // 2^32-1 buffers in 4 bytes
	if _, err := Decode(TypeOffer, lie); !errors.Is(err, ErrMalformed) {
		t.Errorf("count: %v", err)
	}
}

func TestPreface(t *testing.T) {
	for _, p := range []Preface{{StreamControl, 0}, {StreamLane, weir.Alarm}, {StreamLane, weir.Bulk}} {
		var b bytes.Buffer
		if err := WritePreface(&b, p); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadPreface(&b); err != nil || got != p {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	for _, b := range []string{"x\x01\x01\x00", "w\x02\x01\x00", "w\x01\x03\x00", "w\x01\x01\x01", "w\x01\x02\x03", "w\x01\x00\x00"} {
		if _, err := ReadPreface(strings.NewReader(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", b, err)
		}
	}
	if _, err := ReadPreface(strings.NewReader("w\x01")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short: %v", err)
	}
}

// FuzzFrame: whatever arrives, decoding does not panic, and what it accepts has
// one encoding.
func FuzzFrame(f *testing.F) {
	for _, s := range samples() {
		f.Add(AppendFrame(nil, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			at := len(b) - r.Len()
			frame, err := Read(r, 1<<16)
			if err != nil {
				return
			}
			if got, want := AppendFrame(nil, frame), b[at:len(b)-r.Len()]; !bytes.Equal(got, want) {
				t.Fatalf("%T: %x became %x", frame, want, got)
			}
		}
	})
}

func FuzzPreface(f *testing.F) {
	f.Add([]byte("w\x01\x01\x00"))
	f.Add([]byte("w\x01\x02\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ReadPreface(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		WritePreface(&out, p)
		if !bytes.Equal(out.Bytes(), b[:prefaceLen]) {
			t.Fatalf("%x became %x", b, out.Bytes())
		}
	})
}
