package wal

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// FuzzRecords: the decoder takes nothing but what the encoder writes, give or
// take longer varints, and never more records than there are bytes for.
func FuzzRecords(f *testing.F) {
	f.Add(appendRecords(nil, recs(0, 3)), uint32(3), uint64(1))
	f.Add(appendRecords(nil, []Record{{}}), uint32(1), uint64(7))
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255, 15}, uint32(1), uint64(1))
	f.Fuzz(func(t *testing.T, body []byte, count uint32, from uint64) {
		h := header{first: 1, count: max(count, 1)}
		items, err := decodeRecords(body, h, 1)
		if err != nil {
			return
		}
		if uint32(len(items)) != h.count {
			t.Fatalf("%d items, want %d", len(items), h.count)
		}
		rs := make([]Record, len(items))
		for i, it := range items {
			if it.Seq != uint64(i+1) || it.Gap != nil {
				t.Fatalf("item %d: %+v", i, it)
			}
			rs[i] = it.Record
		}
		again, err := decodeRecords(appendRecords(nil, rs), h, 1)
		if err != nil || !reflect.DeepEqual(items, again) {
			t.Fatalf("encoded again: %v", err)
		}
		if from = max(1, from%uint64(h.count+1)); from <= h.last() {
			if part, err := decodeRecords(body, h, from); err != nil || !reflect.DeepEqual(part, items[from-1:]) {
				t.Fatalf("from %d: %v", from, err)
			}
		}
	})
}

// FuzzFrame: whatever the bytes, the search for frames ends, stays inside, and
// finds frames that stand where they say.
func FuzzFrame(f *testing.F) {
	const s = salt(7)
	frame := appendRecords(openFrame(nil), recs(0, 2))
	sealFrame(frame, 0, s, kindRecords, 5, 2)
	f.Add(frame)
	f.Add(append([]byte{byte(len(frame)) | 0x80, byte(len(frame) >> 7)}, frame...))
	f.Add(append(bytes.Repeat([]byte(frameMagic), 20), frame...))
	f.Fuzz(func(t *testing.T, data []byte) {
		src := windowOn(data)
		for off := int64(0); off < int64(len(data)); {
			h, at, ok, err := findHeader(src, s, off)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if at < off || at+headerSize > int64(len(data)) || h.count == 0 || h.first == 0 || h.last() < h.first {
				t.Fatalf("frame at %d of %d: %+v", at, len(data), h)
			}
			body, ok, err := readBody(src, h, at)
			if err != nil || ok && len(body) != h.size {
				t.Fatalf("body of %d bytes, want %d: %v", len(body), h.size, err)
			}
			if ok {
				p := append(openFrame(nil), body...)
				sealFrame(p, 0, s, h.kind, h.first, h.count)
				if !bytes.Equal(p, data[at:h.end(at)]) {
					t.Fatal("sealed again it differs")
				}
			}
			off = h.end(at)
		}
	})
}

// FuzzSegment: any bytes at all as a segment, behind good frames. The log
// boots, what was stored is read, and the rest is no harm.
func FuzzSegment(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add(make([]byte, 300), uint16(100))
	f.Add([]byte("\x20"+frameMagic), uint16(7))
	f.Fuzz(func(t *testing.T, tail []byte, cut uint16) {
		dir := fastDir(t)
		o := small(dir)
		o.disk = noSync()
		l := mustOpen(t, o)
		id, _ := mustAppend(t, l, weir.Live, recs(0, 3))
		path := segmentFiles(t, dir, id, weir.Live)[0]
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, weir.Live, recs(3, 3))
		abandon(l)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		keep := int(st.Size()) + int(cut)%(len(good)-int(st.Size())+1)
		if err := os.WriteFile(path, append(good[:keep:keep], tail...), 0o600); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, o)
		items := readAll(t, l, id, weir.Live)
		if last := items[len(items)-1]; last.Seq != 6 {
			t.Fatalf("last item %+v", last)
		}
		checkItems(t, items[:3], recs(0, 3))
		l.Close()
	})
}

// FuzzSideFiles: any bytes as each of the side files.
func FuzzSideFiles(f *testing.F) {
	slot := sealSlot(mark{high: 3, acked: 1, sealed: true}.encode(), 4, 1)
	f.Add(slot[:], byte(0))
	gap := append(openFrame(nil), appendGap(nil, weir.Gap{First: 1, Last: 2, Reason: "x", Exact: true})...)
	sealFrame(gap, 0, 1, kindGap, 1, 1)
	f.Add(gap, byte(1))
	f.Add(make([]byte, cellSize), byte(2))
	f.Fuzz(func(t *testing.T, data []byte, which byte) {
		if value, gen, ok := parseSlot(data, 1); ok {
			if again := sealSlot(value, gen, 1); !bytes.Equal(again[:], data) && !bytes.Equal(data[5:8], make([]byte, 3)) {
				t.Log("reserved bytes are in use")
			}
			parseMark(value)
		}
		if gap, err := parseGap(data); err == nil && !bytes.Equal(appendGap(nil, gap), data) {
			t.Fatalf("gap %+v", gap)
		}
		if row, err := parseRow(data); err == nil && !bytes.Equal(appendRow(nil, row), data) {
			t.Fatalf("row %+v", row)
		}
		if g, err := parseGone(data); err == nil && !bytes.Equal(appendGone(nil, g), data) {
			t.Fatalf("retired buffer %+v", g)
		}
		if b, err := parseEnded(data); err == nil && !bytes.Equal(appendEnded(nil, b), data) {
			t.Fatalf("ended buffer %+v", b)
		}
		if dead, err := parseDead(data, uint32(which)); err == nil && len(dead) != int(which) {
			t.Fatalf("%d dead letters, want %d", len(dead), which)
		}
		dir := fastDir(t)
		o := small(dir)
		o.disk = noSync()
		l := mustOpen(t, o)
		id, _ := mustAppend(t, l, weir.Live, recs(0, 3))
		abandon(l)
		lane := filepath.Join(buffersName, bufferName(id), weir.Live.String())
		names := []string{counterName, retiredName, filepath.Join(lane, marksName), filepath.Join(lane, gapsName),
			filepath.Join(buffersName, bufferName(id), rowsName), latestName, endedNames[0], endedNames[1]}
		if err := os.WriteFile(filepath.Join(dir, names[int(which)%len(names)]), data, 0o600); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, o)
		if _, err := l.Rows(id); err != nil {
			t.Fatal(err)
		}
		checkItems(t, readAll(t, l, id, weir.Live)[:3], recs(0, 3))
		l.Close()
	})
}
