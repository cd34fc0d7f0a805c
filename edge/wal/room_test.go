package wal

import (
	"errors"
	"testing"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

func TestQuota(t *testing.T) {
	o := small(t.TempDir())
	o.Quota = 64 << 10
	l := mustOpen(t, o)
	fill := func(ln weir.Lane) (n uint64) {
		for {
			_, _, err := l.Append(ln, recs(0, 5))
			if errors.Is(err, ErrFull) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			n += 5
		}
	}
	id := l.Current()
	bulk := fill(weir.Bulk)
	if live := fill(weir.Live); live == 0 {
		t.Error("bulk left no room for live records")
	}
	if alarm := fill(weir.Alarm); alarm == 0 {
		t.Error("bulk and live records left no room for alarms")
	}
	if s := l.Stats(); s.Bytes > o.Quota || s.Bytes < o.Quota*9/10 {
		t.Errorf("%d bytes with a quota of %d", s.Bytes, o.Quota)
	}
	checkBytes(t, l)
	if l.Current() != id || l.Last(id, weir.Bulk) != bulk {
		t.Error("a full log began a new buffer")
	}
	if err := l.Trim(id, weir.Bulk, bulk); err != nil {
		t.Fatal(err)
	}
	if again := fill(weir.Bulk); again < bulk/2 {
		t.Errorf("%d records fit after %d were trimmed", again, bulk)
	}
}

// TestRoom: what Room says fits is stored.
func TestRoom(t *testing.T) {
	o := small(t.TempDir())
	o.Quota = 64 << 10
	l := mustOpen(t, o)
	for range 20 {
		room := l.Room(weir.Bulk)
		if l.Full(weir.Bulk) {
			break
		}
		var batch []Record
		for n := int64(0); ; {
			r := rec(len(batch))
			if n += Size(&r); n > min(room, 9000) {
				break
			}
			batch = append(batch, r)
		}
		if len(batch) == 0 {
			r := Record{Topic: "t"}
			if room > Size(&r) {
				r.Value = make([]byte, room-Size(&r))
			} else {
				break
			}
			batch = []Record{r}
		}
		if _, _, err := l.Append(weir.Bulk, batch); err != nil {
			t.Fatalf("room %d, %d records: %v", room, len(batch), err)
		}
	}
	if l.Room(weir.Bulk) > 200 || l.Room(weir.Alarm) < 2*o.Quota/laneShare-FrameOverhead {
		t.Errorf("Room is %d for bulk, %d for alarms", l.Room(weir.Bulk), l.Room(weir.Alarm))
	}
}

func TestSizeIsAnUpperBound(t *testing.T) {
	long := make([]byte, 70_000)
	for _, r := range []Record{
		{},
		rec(7),
		{Topic: "t", Record: record.Record{Timestamp: -1 << 63, Key: long, Value: long}},
		{Topic: string(long), Record: record.Record{Headers: []record.Header{{}, {Key: string(long), Value: long}}}},
	} {
		if n, size := int64(len(appendRecords(nil, []Record{r}))), Size(&r); n > size || size > n+100 {
			t.Errorf("encoded %d bytes, Size %d", n, size)
		}
	}
}

// TestReserve: if others fill the disk, that is not a failed write.
func TestReserve(t *testing.T) {
	o := small(t.TempDir())
	o.Reserve = 1 << 20
	left := int64(1 << 30)
	o.disk.free = func(string) (int64, error) { return left, nil }
	l := mustOpen(t, o)
	id, _ := mustAppend(t, l, weir.Live, recs(0, 3))
	left = o.Reserve + 50
	if _, _, err := l.Append(weir.Live, recs(3, 3)); !errors.Is(err, ErrFull) {
		t.Fatalf("Append: %v", err)
	}
	if !l.Full(weir.Alarm) {
		t.Error("not full")
	}
	left = 1 << 30
	if got, first := mustAppend(t, l, weir.Live, recs(3, 3)); got != id || first != 4 {
		t.Fatalf("appended to %v %d", got, first)
	}
	left = -1
	o.disk.free = nil
	if n, err := freeBytes(o.Dir); n <= 0 || err != nil {
		t.Fatalf("free bytes: %d, %v", n, err)
	}
}

// TestFailedPlaceIsNeverGivenAgain: a caller whose AppendAt failed may ask later whether the
// place is durable. Other records at that place would be taken for the caller's.
func TestFailedPlaceIsNeverGivenAgain(t *testing.T) {
	o := small(t.TempDir())
	o.Quota = 64 << 10
	l := mustOpen(t, o)
	defer mustClose(t, l)
	mustAppend(t, l, weir.Live, recs(0, 1))
	id, seq := l.Position(weir.Live)
	if err := l.AppendAt(id, weir.Live, seq, recs(1, 5_000)); !errors.Is(err, ErrFull) {
		t.Fatalf("append beyond the quota: %v", err)
	}
	next, first := l.Position(weir.Live)
	if next == id {
		t.Fatalf("the failed place %d of buffer %v is given again", seq, id)
	}
	if err := l.AppendAt(next, weir.Live, first, recs(2, 1)); err != nil {
		t.Fatal(err)
	}
	if last := l.Last(id, weir.Live); last >= seq {
		t.Errorf("place %d of the old buffer counts as durable (last is %d)", seq, last)
	}
}
