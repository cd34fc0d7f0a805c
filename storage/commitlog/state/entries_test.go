package state

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/weir"
)

func TestEntriesRoundTrip(t *testing.T) {
	topic := Topic{ID: weir.TopicID{1, 2}, Name: "a-b_c.d", Partitions: 7, Created: -5, Configs: map[string]string{"k": "v", "": "empty", "j": ""}}
	if got, err := decodeTopicCreated(EncodeTopicCreated(topic)); err != nil || !reflect.DeepEqual(got, topic) {
		t.Errorf("%+v %v", got, err)
	}
	if id, err := decodeTopicDeleted(EncodeTopicDeleted(topic.ID)); err != nil || id != topic.ID {
		t.Error(id, err)
	}
	if id, n, err := decodeTopicGrown(EncodeTopicGrown(topic.ID, 9)); err != nil || id != topic.ID || n != 9 {
		t.Error(id, n, err)
	}
	if id, configs, err := decodeTopicAltered(EncodeTopicAltered(topic.ID, topic.Configs)); err != nil || id != topic.ID || !reflect.DeepEqual(configs, topic.Configs) {
		t.Error(id, configs, err)
	}
	if g, b, err := decodeBufferRetired(EncodeBufferRetired("gate", buffer(3))); err != nil || g != "gate" || b != buffer(3) {
		t.Error(g, b, err)
	}
	if n, err := decodeProducerIDs(EncodeProducerIDs(1 << 60)); err != nil || n != 1<<60 {
		t.Error(n, err)
	}
	for level := range 3 {
		if all, err := decodeInstalled(EncodeInstalled(goldenPieces(), level)); err != nil || !reflect.DeepEqual(all, goldenPieces()) {
			t.Error(level, all, err)
		}
	}
	if key, start, err := decodeTrimmed(EncodeTrimmed(Place{topic.ID, 7}, 1<<50)); err != nil || key != (Place{topic.ID, 7}) || start != 1<<50 {
		t.Error(key, start, err)
	}
	ids := []SegmentID{{Epoch: 1, Number: 300}, {Epoch: math.MaxUint64, Number: 1}}
	cut := journal.Position{Epoch: 2, Slot: 9}
	for level := range 3 {
		if cleaned, truncated, got, err := decodeSwept(EncodeSwept(3, cut, ids, level)); err != nil || cleaned != 3 || truncated != cut || !reflect.DeepEqual(got, ids) {
			t.Error(cleaned, got, err)
		}
	}
	sources := []Source{
		*source("g", 1, 0, 1, 1), *source(strings.Repeat("long", 100), 2, 5, 9, 1<<40),
		*source("h", 3, math.MaxUint64-2, math.MaxUint64-1, math.MaxUint64),
	}
	e := runOf(1<<40, recordtest.Batch("a", "b"), sources...)
	r, err := DecodeRun(e.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := &Run{Topic: testTopic.ID, Base: 1 << 40, Epoch: 1, Batches: 1, Sources: sources, Data: e.Body[r.dataAt:], dataAt: r.dataAt}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("%+v", r)
	}
}

// goldenPieces are one with records and one without.
func goldenPieces() []Placed {
	id := weir.TopicID([]byte("0123456789abcdef"))
	return []Placed{
		{Place{id, 3}, Piece{Base: 300, Next: 305, Time: 1000, Segment: SegmentID{Epoch: 2, Number: 4}, At: 64, Size: 1000, Index: 130, Records: 7}},
		{Place{id, 0}, Piece{Base: 0, Next: 1, Time: segment.NoTime, Segment: SegmentID{Epoch: 2, Number: 4}, At: 1064, Size: 80, Index: 80}},
	}
}

// The bytes at rest do not change by accident.
func TestGoldenEntries(t *testing.T) {
	id := weir.TopicID([]byte("0123456789abcdef"))
	for name, c := range map[string]struct{ got, want string }{
		"created": {
			string(EncodeTopicCreated(Topic{ID: id, Name: "ab", Partitions: 3, Created: 256, Configs: map[string]string{"y": "2", "x": "1"}})),
			"\x01" + "0123456789abcdef" + "\x00\x00\x00\x03" + "\x00\x00\x00\x00\x00\x00\x01\x00" + "\x00\x02ab" + "\x00\x02" + "\x00\x01x\x00\x011\x00\x01y\x00\x012",
		},
		"deleted": {string(EncodeTopicDeleted(id)), "\x010123456789abcdef"},
		"grown":   {string(EncodeTopicGrown(id, 258)), "\x010123456789abcdef\x00\x00\x01\x02"},
		"altered": {string(EncodeTopicAltered(id, map[string]string{"y": "2", "x": "1"})), "\x010123456789abcdef" + "\x00\x02" + "\x00\x01x\x00\x011\x00\x01y\x00\x012"},
		"retired": {string(EncodeBufferRetired("g1", buffer(2))), "\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07\x00\x02g1"},
		"ids":     {string(EncodeProducerIDs(1001)), "\x01\x00\x00\x00\x00\x00\x00\x03\xe9"},
		"installed": {
			string(EncodeInstalled(goldenPieces(), 1)),
			"\x01\x00\x00\x00\x02" +
				"0123456789abcdef" + "\x03" + "\xac\x02\x05" + "\xd0\x0f" + "\x02\x04" + "\x40\xe8\x07\x82\x01\x07" +
				"0123456789abcdef" + "\x00" + "\x00\x01" + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + "\x02\x04" + "\xa8\x08\x50\x50\x00",
		},
		"trimmed": {string(EncodeTrimmed(Place{id, 3}, 258)), "\x010123456789abcdef" + "\x00\x00\x00\x03" + "\x00\x00\x00\x00\x00\x00\x01\x02"},
		"swept": {
			string(EncodeSwept(3, journal.Position{Epoch: 2, Slot: 9}, []SegmentID{{Epoch: 1, Number: 300}, {Epoch: 2, Number: 1}}, 1)),
			"\x01" + "\x00\x00\x00\x00\x00\x00\x00\x03" + "\x00\x00\x00\x00\x00\x00\x00\x02" + "\x00\x00\x00\x00\x00\x00\x00\x09" + "\x00\x00\x00\x02" + "\x01\xac\x02" + "\x02\x01",
		},
		"run": {
			string(runOf(5, recordtest.Batch("v"), mapped(source("g1", 2, 3, 4, 300), 2, 200)).Body[:68]),
			"\x01" + "\x86\x39\xab\x13" + string(testTopic.ID[:]) + "\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "\x00\x00\x00\x01" +
				"\x00\x00\x00\x01" + "\x00\x00\x00\x01" + "\x02g1" + "\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07" + "\x01" + "\x03\x01\xa8\x02\x02\xc8\x01",
		},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", name, c.got, c.want)
		}
	}
}

// Every cut, and every flipped bit outside of the batches' own CRCs, is found.
func TestRunDamage(t *testing.T) {
	body := runOf(7, recordtest.Batch("hello"), *source("g", 1, 0, 1, 3)).Body
	r, err := DecodeRun(body)
	if err != nil {
		t.Fatal(err)
	}
	for n := range body {
		if _, err := DecodeRun(body[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for i := range r.dataAt + outsideCRC {
		for bit := range 8 {
			damaged := bytes.Clone(body)
			damaged[i] ^= 1 << bit
			if _, err := DecodeRun(damaged); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Errorf("byte %d bit %d: %v", i, bit, err)
			}
		}
	}
}

// FuzzDecodeEntry: no body makes a decoder panic or allocate beyond its length,
// and what decodes encodes to the same bytes.
func FuzzDecodeEntry(f *testing.F) {
	f.Add(KindTopicCreated, EncodeTopicCreated(Topic{Name: "t", Partitions: 1, Configs: map[string]string{"a": "b", "c": "d"}}))
	f.Add(KindTopicDeleted, EncodeTopicDeleted(weir.TopicID{1}))
	f.Add(KindTopicGrown, EncodeTopicGrown(weir.TopicID{1}, 3))
	f.Add(KindTopicAltered, EncodeTopicAltered(weir.TopicID{1}, map[string]string{"a": "b", "c": "d"}))
	f.Add(KindTopicDeleting, EncodeTopicDeleting(weir.TopicID{1}))
	f.Add(KindTopicOpened, EncodeTopicOpened(Topic{Name: "t", Partitions: 1, Configs: map[string]string{"a": "b"}}, journal.Position{Epoch: 2, Slot: 9}))
	f.Add(KindTopicDropped, EncodeTopicDropped(weir.TopicID{1}, journal.Position{Epoch: 2, Slot: 9}))
	f.Add(KindDroppedForgotten, EncodeDroppedForgotten([]weir.TopicID{{2}, {1}}, journal.Position{Epoch: 2, Slot: 9}))
	f.Add(KindRun, runOf(3, recordtest.Batch("a"), *source("g", 1, 0, 1, 2), *source("h", 1, 4, 500, 70000)).Body)
	f.Add(KindRun, runOf(0, recordtest.Produced(1, 2, 3, "a", "b")).Body)
	f.Add(KindBufferRetired, EncodeBufferRetired("gateway", buffer(9)))
	f.Add(KindProducerIDs, EncodeProducerIDs(7))
	f.Add(KindInstalled, EncodeInstalled(goldenPieces(), 1))
	f.Add(KindInstalled, EncodeInstalled(flaggedPieces(), 2))
	f.Add(KindTrimmed, EncodeTrimmed(Place{weir.TopicID{1}, 3}, 1<<40))
	f.Add(KindSwept, EncodeSwept(3, journal.Position{Epoch: 2, Slot: 9}, []SegmentID{{Epoch: 1, Number: 300}, {Epoch: 2, Number: 1}}, 1))
	for _, e := range moveEntries() {
		f.Add(e.Kind, e.Body)
	}
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		if kind == KindRun {
			// No fuzzer guesses a checksum: help it past that.
			if r, _, err := decodeRunHead(body); err == nil {
				body = bytes.Clone(body)
				_ = SealRun(body, r.dataAt)
			}
		}
		again, err := recode(kind, body)
		if err == nil && !bytes.Equal(again, body) {
			t.Errorf("kind %d: %x became %x", kind, body, again)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
	})
}

func recode(kind uint16, body []byte) ([]byte, error) {
	switch kind {
	case KindTopicCreated:
		topic, err := decodeTopicCreated(body)
		return EncodeTopicCreated(topic), err
	case KindTopicDeleted:
		id, err := decodeTopicDeleted(body)
		return EncodeTopicDeleted(id), err
	case KindTopicGrown:
		id, n, err := decodeTopicGrown(body)
		return EncodeTopicGrown(id, n), err
	case KindTopicAltered:
		id, configs, err := decodeTopicAltered(body)
		return EncodeTopicAltered(id, configs), err
	case KindTopicDeleting:
		id, err := decodeTopicDeleting(body)
		return EncodeTopicDeleting(id), err
	case KindTopicOpened:
		topic, at, err := decodeTopicOpened(body)
		return EncodeTopicOpened(topic, at), err
	case KindTopicDropped:
		id, at, err := decodeTopicDropped(body)
		return EncodeTopicDropped(id, at), err
	case KindDroppedForgotten:
		ids, at, err := decodeDroppedForgotten(body)
		return EncodeDroppedForgotten(ids, at), err
	case KindRun:
		r, err := DecodeRun(body)
		if err != nil {
			return nil, err
		}
		again := AppendRunHead(nil, r)
		at := len(again)
		again = append(again, r.Data...)
		return again, SealRun(again, at)
	case KindBufferRetired:
		g, b, err := decodeBufferRetired(body)
		return EncodeBufferRetired(g, b), err
	case KindProducerIDs:
		next, err := decodeProducerIDs(body)
		return EncodeProducerIDs(next), err
	case KindInstalled:
		all, err := decodeInstalled(body)
		if err != nil {
			return nil, err
		}
		return EncodeInstalled(all, int(body[0])), nil
	case KindTrimmed:
		key, start, err := decodeTrimmed(body)
		return EncodeTrimmed(key, start), err
	case KindSwept:
		cleaned, truncated, ids, err := decodeSwept(body)
		if err != nil {
			return nil, err
		}
		return EncodeSwept(cleaned, truncated, ids, int(body[0])), nil
	case KindMovedOut, KindImported:
		return recodeMove(kind, body)
	case KindSliceMap:
		l, err := (*Layout)(nil).With(journal.Entry{Kind: kind, Body: body})
		if err != nil {
			return nil, err
		}
		return EncodeSliceMap(&l.Map), nil
	case KindShardCount:
		l, err := (*Layout)(nil).With(journal.Entry{Kind: kind, Body: body})
		if err != nil {
			return nil, err
		}
		return EncodeShardCount(l.Shards), nil
	}
	return nil, ErrFormat
}
