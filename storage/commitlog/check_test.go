package commitlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// deaf is a journal.State that wants nothing.
type deaf struct{}

func (deaf) Restore(journal.Position, []byte) error { return nil }

func (deaf) Apply(journal.Position, []journal.Entry) error { return nil }

// raw makes a bucket whose log holds the entries, one slot each, even those that no Log
// would write.
func raw(t *testing.T, entries ...journal.Entry) *mem.Bucket {
	t.Helper()
	b := mem.New()
	if _, err := identity.Open(context.Background(), b, 0); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(context.Background(), journal.Options{Bucket: b}, deaf{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := j.Write([]journal.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

var testTopic = state.Topic{ID: weir.TopicID{1}, Name: "t", Partitions: 2}

func created() journal.Entry {
	return journal.Entry{Kind: state.KindTopicCreated, Body: state.EncodeTopicCreated(testTopic)}
}

// runOf is a well-formed run at a base, of epoch 1.
func runOf(base int64, b record.Batch, sources ...state.Source) journal.Entry {
	r := state.Run{Topic: testTopic.ID, Base: base, Epoch: 1, Batches: 1, Sources: sources}
	b.SetBaseOffset(base)
	b.SetLeaderEpoch(1)
	body := state.AppendRunHead(nil, &r)
	dataAt := len(body)
	body = append(body, b...)
	must(state.SealRun(body, dataAt))
	return journal.Entry{Kind: state.KindRun, Body: body}
}

func TestCheckFindsBrokenRules(t *testing.T) {
	hollow := recordtest.Batch("a", "b")
	hollow[record.HeaderSize] = 200
	recordtest.Reseal(hollow)
	garbled := recordtest.Batch("a")
	garbled[record.HeaderSize+3] ^= 1
	control := recordtest.Batch("a")
	recordtest.SetFlag(control, 0x20)
	elsewhere := runOf(0, recordtest.Batch("a"))
	elsewhere.Body[5+16+3]++ // the partition, outside of every batch's CRC
	otherEpoch := runOf(0, recordtest.Batch("a"))
	binary.BigEndian.PutUint32(otherEpoch.Body[33:], 9)
	wrongEpoch := func() journal.Entry {
		r := state.Run{Topic: testTopic.ID, Epoch: 5, Batches: 1}
		b := recordtest.Batch("a")
		b.SetLeaderEpoch(5)
		body := state.AppendRunHead(nil, &r)
		at := len(body)
		body = append(body, b...)
		must(state.SealRun(body, at))
		return journal.Entry{Kind: state.KindRun, Body: body}
	}()
	gone := journal.Entry{Kind: state.KindBufferRetired, Body: state.EncodeBufferRetired("g", buffer(1))}

	for name, c := range map[string]struct {
		entries []journal.Entry
		want    string
	}{
		"hole in the offsets":  {[]journal.Entry{runOf(0, recordtest.Batch("a")), runOf(2, recordtest.Batch("b"))}, "at offset 2, but its end is 1"},
		"offset given twice":   {[]journal.Entry{runOf(0, recordtest.Batch("a", "b")), runOf(1, recordtest.Batch("c"))}, "at offset 1, but its end is 2"},
		"sequence twice":       {[]journal.Entry{runOf(0, recordtest.Batch("a"), *source("g", 1, 0, 1, 1)), runOf(1, recordtest.Batch("a"), *source("g", 1, 0, 1, 1))}, "its mark is 1"},
		"hole in a stream":     {[]journal.Entry{runOf(0, recordtest.Batch("a"), *source("g", 1, 0, 1, 1)), runOf(1, recordtest.Batch("a"), *source("g", 1, 2, 3, 3))}, "its mark is 1"},
		"mark moves back":      {[]journal.Entry{runOf(0, recordtest.Batch("a"), *source("g", 1, 0, 9, 9)), runOf(1, recordtest.Batch("a"), *source("g", 1, 0, 1, 1))}, "its mark is 9"},
		"retired buffer":       {[]journal.Entry{runOf(0, recordtest.Batch("a"), *source("g", 1, 0, 1, 1)), gone, runOf(1, recordtest.Batch("a"), *source("g", 1, 0, 2, 2))}, "which is retired"},
		"producer's gap":       {[]journal.Entry{runOf(0, recordtest.Produced(7, 0, 0, "a")), runOf(1, recordtest.Produced(7, 0, 2, "a"))}, "producer 7 goes on"},
		"producer's repeat":    {[]journal.Entry{runOf(0, recordtest.Produced(7, 0, 0, "a")), runOf(1, recordtest.Produced(7, 0, 0, "a"))}, "producer 7 goes on"},
		"producer's old epoch": {[]journal.Entry{runOf(0, recordtest.Produced(7, 2, 0, "a")), runOf(1, recordtest.Produced(7, 1, 0, "a"))}, "producer 7 goes on"},
		"transaction's marker": {[]journal.Entry{runOf(0, recordtest.Transactional(7, 2, 0, "a")), runOf(1, record.NewMarker(7, 1, record.Marker{}, 0))}, "producer 7 has epoch 2, its marker"},
		"transaction's batch":  {[]journal.Entry{runOf(0, recordtest.Transactional(7, 2, 0, "a")), runOf(1, recordtest.Produced(7, 2, 1, "b"))}, "producer 7 goes on"},
		"transaction's epoch":  {[]journal.Entry{runOf(0, recordtest.Transactional(7, 2, 0, "a")), runOf(1, recordtest.Transactional(7, 3, 0, "b"))}, "producer 7 goes on"},
		"transaction of none":  {[]journal.Entry{runOf(0, recordtest.InTransaction(recordtest.Batch("a")))}, "has no producer"},
		"no marker":            {[]journal.Entry{runOf(0, control)}, "not the marker"},
		"trimmed too far":      {[]journal.Entry{runOf(0, recordtest.Transactional(7, 0, 0, "a")), {Kind: state.KindTrimmed, Body: state.EncodeTrimmed(state.Place{Topic: testTopic.ID, Partition: 0}, 1)}}, "beyond its last stable one 0"},
		"batch CRC":            {[]journal.Entry{runOf(0, garbled)}, "CRC"},
		"records":              {[]journal.Entry{runOf(0, hollow)}, "record 0"},
		"run's head":           {[]journal.Entry{elsewhere}, "outside"},
		"run's epoch":          {[]journal.Entry{otherEpoch}, "outside"},
		"epoch":                {[]journal.Entry{wrongEpoch}, "leader epoch 5 in epoch 1"},
		"unknown partition":    {[]journal.Entry{{Kind: state.KindTopicDeleted, Body: state.EncodeTopicDeleted(testTopic.ID)}, runOf(0, recordtest.Batch("a"))}, "which does not exist"},
		"topic twice":          {[]journal.Entry{created()}, "created twice"},
		"topic unknown":        {[]journal.Entry{{Kind: state.KindTopicDeleted, Body: state.EncodeTopicDeleted(weir.TopicID{2})}}, "does not exist"},
		"shrinks":              {[]journal.Entry{{Kind: state.KindTopicGrown, Body: state.EncodeTopicGrown(testTopic.ID, 1)}}, "from 2 to 1"},
		"settings of nothing":  {[]journal.Entry{{Kind: state.KindTopicAltered, Body: state.EncodeTopicAltered(weir.TopicID{2}, nil)}}, "does not exist"},
		"producer ids":         {[]journal.Entry{{Kind: state.KindProducerIDs, Body: state.EncodeProducerIDs(1)}}, "reserved twice"},
		"unknown kind":         {[]journal.Entry{{Kind: 77}}, "kind 77"},
		"cut short":            {[]journal.Entry{{Kind: state.KindRun, Body: []byte{1, 2, 3}}}, "run entry"},
	} {
		b := raw(t, append([]journal.Entry{created()}, c.entries...)...)
		var out bytes.Buffer
		report, err := check.Check(context.Background(), b, &out)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		key := journal.SlotKey(0, journal.Position{Epoch: 1, Slot: uint64(1 + len(c.entries))})
		all := strings.Join(report.Problems, "\n")
		if len(report.Problems) != 1 || !strings.Contains(all, c.want) || !strings.HasPrefix(all, key) {
			t.Errorf("%s: %q, want %q in %s", name, all, c.want, key)
		}
		if out.String() != all+"\n" {
			t.Errorf("%s: printed %q", name, out.String())
		}
		// A log with problems must not be led, except for problems inside batches, which
		// recovery does not read.
		if name == "records" || name == "batch CRC" {
			continue
		}
		if l, err := Open(context.Background(), options(b)); err == nil {
			t.Errorf("%s: opened", name)
			must(l.Close())
		}
	}
}

// A damaged slot is a problem with its key, not a failure of Check.
func TestCheckFindsDamage(t *testing.T) {
	ctx := context.Background()
	b := raw(t, created(), runOf(0, recordtest.Batch("a")), runOf(1, recordtest.Batch("b")))
	key := journal.SlotKey(0, journal.Position{Epoch: 1, Slot: 2})
	whole, err := b.Get(ctx, key, 0, -1)
	must(err)
	for _, at := range []int{0, 30, len(whole) - 1} {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1
		put(t, b, key, damaged)
		report, err := check.Check(ctx, b, nil)
		if err != nil || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], key) {
			t.Errorf("byte %d: %q, %v", at, report.Problems, err)
		}
	}
}

func TestCheckReport(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	if _, err := check.Check(ctx, b, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	l := open(t, b)
	topic := createTopic(t, l, "t", 3)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a", "b"), Source: source("g", 1, 0, 1, 2)})
	appended(t, l, Append{Topic: topic.ID, Partition: 1, Batch: recordtest.Batch("c"), Source: source("g", 1, 0, 3, 3)})
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("d"), Source: source("h", 1, 0, 1, 1)})
	r := sound(t, b)
	if r.Slots != 4 || r.Entries != 5 || r.Batches != 3 || r.Records != 4 || r.Topics != 1 || r.Partitions != 3 || r.Streams != 2 || r.Bytes == 0 || r.Took == 0 {
		t.Errorf("%+v", r)
	}
}

// doubtful is a bucket that keeps something twice, and only one copy is whole.
type doubtful struct{ *mem.Bucket }

func (doubtful) Traits() storage.Traits {
	return storage.Traits{Verify: func(_ context.Context, prefix string) error {
		return fmt.Errorf("%s: %w", prefix, storage.ErrDamaged)
	}}
}

// TestCheckVerifies: a check reports what the bucket says of itself.
func TestCheckVerifies(t *testing.T) {
	b := raw(t, created())
	for _, test := range []struct {
		bucket   storage.Bucket
		problems int
	}{{b, 0}, {doubtful{b}, 1}} {
		r, err := check.Check(t.Context(), test.bucket, nil)
		if err != nil || len(r.Problems) != test.problems || test.problems > 0 && !strings.Contains(r.Problems[0], journal.SlotPrefix(0)) {
			t.Errorf("problems are %q, %v, want %d", r.Problems, err, test.problems)
		}
	}
}
