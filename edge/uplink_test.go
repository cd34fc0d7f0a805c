package edge

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"

	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/sender"
)

var _ sender.Buffers = uplink{}

func appendLive(t *testing.T, log *wal.Log, values ...string) weir.BufferID {
	t.Helper()
	records := make([]wal.Record, len(values))
	for i, v := range values {
		records[i] = wal.Record{Topic: "t", Record: record.Record{Key: []byte("k"), Value: []byte(v),
			Headers: []record.Header{{Key: "site", Value: []byte("n")}}}}
	}
	id, _, err := log.Append(weir.Live, records)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestRead: the sender sees what was appended, and with --source-header where
// it lay. The header is not written into what the log keeps.
func TestRead(t *testing.T) {
	log := openLog(t, wal.Options{})
	id := appendLive(t, log, "a", "b")
	for _, source := range []bool{true, false, true} {
		items, err := uplink{Log: log, source: source, gateway: []byte("gw-1")}.Read(id, weir.Lane(weir.Live), 1)
		if err != nil || len(items) != 2 {
			t.Fatalf("%v %v", items, err)
		}
		for i, item := range items {
			want := []record.Header{{Key: "site", Value: []byte("n")}}
			if source {
				want = append(want, record.Header{Key: "weir.source", Value: fmt.Appendf(nil, "%s/live/%d", id, i+1)})
			}
			if item.Topic != "t" || item.Seq != uint64(i+1) || string(item.Record.Value) != []string{"a", "b"}[i] || !reflect.DeepEqual(item.Record.Headers, want) {
				t.Errorf("source %v: %+v, want headers %v", source, item, want)
			}
		}
	}
	if _, err := (uplink{Log: log}).Read(id, weir.Lane(weir.Live), 3); !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %v, want io.EOF itself", err)
	}
}

// TestList: what is offered is what is left to deliver.
func TestList(t *testing.T) {
	log := openLog(t, wal.Options{})
	id := appendLive(t, log, "a", "b", "c")
	u := uplink{Log: log}
	if err := u.Trim(id, weir.Lane(weir.Live), 2); err != nil {
		t.Fatal(err)
	}
	list, err := u.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	want := weir.Buffer{ID: id, Current: true}
	want.Lanes[weir.Alarm], want.Lanes[weir.Live], want.Lanes[weir.Bulk] = weir.Bounds{First: 1}, weir.Bounds{First: 3, Last: 3}, weir.Bounds{First: 1}
	if !reflect.DeepEqual(list[0], want) {
		t.Errorf("got %+v, want %+v", list[0], want)
	}
}

// TestRetire: a buffer that the cloud has is removed, even if this disk does not know that all
// of it was acknowledged. The current buffer stays.
func TestRetire(t *testing.T) {
	dir := t.TempDir()
	open := func() *wal.Log {
		log, err := wal.Open(wal.Options{Dir: dir, Reserve: -1})
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	log := open()
	old := appendLive(t, log, "a", "b")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	log = open()
	defer log.Close()
	current := appendLive(t, log, "c")
	u := uplink{Log: log}
	if err := u.Retire(current); !errors.Is(err, wal.ErrUnacked) {
		t.Errorf("retire the current buffer: %v", err)
	}
	for range 2 { // a second time is no error
		if err := u.Retire(old); err != nil {
			t.Errorf("retire: %v", err)
		}
	}
	list, err := u.List()
	if err != nil || len(list) != 1 || list[0].ID != current || list[0].Lanes[weir.Live] != (weir.Bounds{First: 1, Last: 1}) {
		t.Errorf("what is left: %+v %v", list, err)
	}
	if last := log.Last(old, weir.Live); last != 2 {
		t.Errorf("the last sequence of what was retired is %d", last)
	}
}

// TestNotes: rows and dead letters are kept as they were given.
func TestNotes(t *testing.T) {
	log := openLog(t, wal.Options{})
	id := appendLive(t, log, "a")
	u := uplink{Log: log}
	row := weir.MapRow{Buffer: id, Name: "t", Topic: weir.TopicID{1}, Lane: weir.Lane(weir.Live), Row: weir.Row{Partitions: 4, From: 1}}
	for range 2 {
		if err := u.AddRow(row); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := u.Rows(id)
	if err != nil || !reflect.DeepEqual(rows, []weir.MapRow{row}) {
		t.Errorf("%v %v", rows, err)
	}
	items, err := u.Read(id, weir.Lane(weir.Live), 1)
	if err != nil {
		t.Fatal(err)
	}
	items = append(items, sender.Item{Seq: 2, Gap: &weir.Gap{First: 2, Last: 2}})
	if err := u.AddDead(id, weir.Lane(weir.Live), items, "too large"); err != nil {
		t.Fatal(err)
	}
	var dead []wal.Dead
	if err := log.EachDead(func(d wal.Dead) error { dead = append(dead, d); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(dead) != 1 || dead[0].Seq != 1 || dead[0].Reason != "too large" || string(dead[0].Record.Value) != "a" {
		t.Errorf("buried %+v", dead)
	}
}
