package group

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"testing/synctest"
)

// TestOffsetsPartition: where Kafka puts groups of these names.
func TestOffsetsPartition(t *testing.T) {
	for name, want := range map[string]int32{
		"": 0, "abc": 4, "hello": 22, "😀": 49, "readers": 28, "console-consumer-12345": 6, "connect-cluster": 13,
		"polygenelubricants": 0, // the hash is the number that has no positive counterpart
	} {
		if got := OffsetsPartition(name); got != want || got < 0 || got >= OffsetsPartitions {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
}

// runHistory is run with an offsets topic, and a topic "t".
func runHistory(t *testing.T, test func(t *testing.T, w world)) {
	t.Helper()
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.level = OffsetsLevel
		w.j.topic("t", 9)
		w.want(w.startHistory(t.Context()), nil)
		w.want(w.startHistory(t.Context()), nil) // there is one already
		test(t, w)
	})
}

// commitTo commits an offset of partitions of topic "t" for a group without members.
func (w world) commitTo(group string, offset int64, partitions ...int32) {
	w.t.Helper()
	r := CommitRequest{Group: group, Generation: -1}
	for _, p := range partitions {
		r.Offsets = append(r.Offsets, Offset{Partition: Partition{idOf("t"), p}, Offset: offset, LeaderEpoch: -1})
	}
	if _, err := w.Commit(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
}

// read shows what a reader of a group's partition sees from an offset on.
func (w world) read(group string, from int64) (list []string, next int64) {
	w.t.Helper()
	for {
		records, end, err := w.History(OffsetsPartition(group), from, 100)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range records {
			list = append(list, show(r))
			from = r.At + 1
		}
		if len(records) == 0 || from >= end {
			return list, end
		}
	}
}

// show is offset, kind, group, topic, partition and committed offset of a record.
func show(r Record) string {
	text := func(b []byte) (string, []byte) {
		n := 2 + int(binary.BigEndian.Uint16(b))
		return string(b[2:n]), b[n:]
	}
	group, rest := text(r.Key[2:])
	switch version := binary.BigEndian.Uint16(r.Key); {
	case version == groupKeyVersion && r.Value == nil:
		return fmt.Sprintf("%d deleted %s", r.At, group)
	case version == groupKeyVersion:
		return fmt.Sprintf("%d described %s", r.At, group)
	}
	topic, rest := text(rest)
	s := fmt.Sprintf("%d %s %s/%d", r.At, group, topic, binary.BigEndian.Uint32(rest))
	if r.Value == nil {
		return s + " removed"
	}
	return fmt.Sprintf("%s=%d", s, binary.BigEndian.Uint64(r.Value[2:]))
}

func (w world) reads(what, group string, from int64, want ...string) {
	w.t.Helper()
	got, next := w.read(group, from)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%s: reads %q, want %q", what, got, want)
	}
	if n := len(got); n > 0 && from < next {
		var last int64
		if _, err := fmt.Sscan(got[n-1], &last); err != nil || last != next-1 {
			w.t.Errorf("%s: the last record is %q, the end %d", what, got[n-1], next)
		}
	}
}

// takeover gives the state to a new coordinator, as a checkpoint does.
func (w world) takeover() world {
	w.t.Helper()
	next := New(w.opts)
	if err := next.Restore(w.Snapshot()); err != nil {
		w.t.Fatal(err)
	}
	_ = w.Close()
	w.j.c = next
	next.Serve(w.j)
	w.Coordinator = next
	return w
}

func TestHistory(t *testing.T) {
	runHistory(t, func(t *testing.T, w world) {
		w.reads("nothing", "g", 0)
		w.commitTo("g", 7, 0, 1)
		w.commitTo("g", 8, 1)
		all := []string{"1 g t/0=7", "2 g t/1=7", "4 g t/1=8"}
		w.reads("all", "g", 0, all...)
		w.reads("in the middle", "g", 2, all[1:]...)
		w.reads("in a hole", "g", 3, all[2])
		w.reads("the end", "g", 5)
		w.reads("others", "h", 0)

		// After a takeover what is current is where it was.
		w = w.takeover()
		w.reads("compacted", "g", 0, all[0], all[2])
		w.reads("compacted, in the middle", "g", 2, all[2])
		w.commitTo("g", 9, 0)
		w.reads("compacted and recent", "g", 0, "4 g t/1=8", "6 g t/0=9")

		p := []Partition{{idOf("t"), 1}, {idOf("t"), 8}, {idOf("t"), 1}}
		w.want(w.DeleteOffsets(t.Context(), "g", p), nil)
		w.reads("an offset was removed", "g", 5, "6 g t/0=9", "7 g t/1 removed")
		// What a new owner cannot know of the last record it leaves out of it.
		w = w.takeover()
		w.reads("last one removed", "g", 0, "6 g t/0=9", "7 deleted ")
		w.want(w.Delete(t.Context(), "g"), nil)
		w.reads("group deleted", "g", 8, "8 g t/0 removed", "9 deleted g")
		w = w.takeover()
		w.reads("nothing left", "g", 0, "9 deleted ")
		w.reads("the end again", "g", 10)
	})
}

// Readers get the name of a topic that was deleted, and the deletion does not affect
// other topics.
func TestHistoryForgetsTopics(t *testing.T) {
	runHistory(t, func(t *testing.T, w world) {
		w.commitTo("g", 7, 0, 1)
		w.j.topic("t", 0)
		w.reads("topic is gone", "g", 0, "2 deleted ")
		w.want(w.ForgetTopic(t.Context(), idOf("t"), "t"), nil)
		w.reads("offsets are gone", "g", 3, "3 g t/0 removed", "4 g t/1 removed")
		w.j.topic("t", 9)
		w.commitTo("g", 8, 0)
		w.reads("goes on", "g", 5, "6 g t/0=8")
	})
}

// The members of a group are described with its next commit.
func TestHistoryDescribes(t *testing.T) {
	runHistory(t, func(t *testing.T, w world) {
		ids, g := w.stable(2)
		commit := func(offset int64) {
			t.Helper()
			r := CommitRequest{Group: name, Generation: g, Identity: Identity{Member: ids[0]}, Offsets: []Offset{{Partition: Partition{idOf("t"), 0}, Offset: offset}}}
			if _, err := w.Commit(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		commit(1)
		commit(2)
		w.reads("once", name, 0, "0 described "+name, "1 "+name+" t/0=1", "3 "+name+" t/0=2")
		records, _, err := w.History(OffsetsPartition(name), 0, 1)
		if err != nil || len(records) != 1 || !bytes.Contains(records[0].Value, []byte(ids[1])) {
			t.Errorf("%+v %v", records, err)
		}
		w = w.takeover()
		w.reads("members are memory", name, 0, "3 "+name+" t/0=2")
	})
}

// History is bounded, and what is current is never out of it.
func TestHistoryIsBounded(t *testing.T) {
	runHistory(t, func(t *testing.T, w world) {
		w.commitTo("g", 1, 3)
		for i := range int64(3 * maxHistory / changeSize) {
			w.commitTo("g", i, 0)
		}
		h := &w.history.parts[OffsetsPartition("g")]
		if h.bytes > maxHistory || len(h.changes)*changeSize > maxHistory || h.oldest < 10 {
			t.Errorf("%d bytes, %d changes from %d on", h.bytes, len(h.changes), h.oldest)
		}
		got, next := w.read("g", 0)
		if got[0] != "1 g t/3=1" || len(got) != 1+len(h.changes) || next != h.next {
			t.Errorf("%d records, first %q", len(got), got[0])
		}
	})
}

func TestHistoryWakes(t *testing.T) {
	runHistory(t, func(t *testing.T, w world) {
		open := func(c <-chan struct{}) bool {
			synctest.Wait()
			select {
			case <-c:
				return false
			default:
				return true
			}
		}
		mine, other := w.WatchHistory(OffsetsPartition("g")), w.WatchHistory(OffsetsPartition("h"))
		if !open(mine) || !open(other) {
			t.Fatal("nothing has happened yet")
		}
		w.commitTo("g", 1, 0)
		if open(mine) || !open(other) {
			t.Error("the partition of the commit is to wake, and no other")
		}
		again := w.WatchHistory(OffsetsPartition("g"))
		w.want(w.Close(), nil)
		if open(again) || open(other) || open(w.WatchHistory(0)) {
			t.Error("nobody waits for a coordinator that is closed")
		}
		if _, _, err := w.History(0, 0, 1); err != ErrClosed {
			t.Error(err)
		}
	})
}

// What was committed before there was an offsets topic is in it, and a bucket of
// format level 1 gets none.
func TestHistoryNeedsALevel(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.topic("t", 9)
		w.commitTo("g", 7, 0, 1)
		w.commitTo("h", 8, 0)
		w.want(w.startHistory(t.Context()), nil)
		if w.HasHistory() || w.Snapshot()[0] != bodyVersion {
			t.Fatal("level 1 has an offsets topic")
		}
		w.j.level = OffsetsLevel
		w.want(w.startHistory(t.Context()), nil)
		if !w.HasHistory() || w.Snapshot()[0] != countedVersion {
			t.Error("level 2 has no offsets topic")
		}
		w.reads("g", "g", 0, "0 g t/0=7", "1 g t/1=7")
		w.reads("h", "h", 0, "0 h t/0=8")
		if all, err := w.Offsets("g", nil); err != nil || len(all) != 2 || all[1] != (Offset{Partition: Partition{idOf("t"), 1}, Offset: 7, LeaderEpoch: -1, CommittedAt: all[1].CommittedAt}) {
			t.Errorf("%+v %v", all, err)
		}
	})
}
