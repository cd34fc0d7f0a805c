package wal

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

func allDead(t testing.TB, l *Log) []Dead {
	t.Helper()
	var all []Dead
	if err := l.EachDead(func(d Dead) error { all = append(all, d); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestBury(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	id, _ := mustAppend(t, l, weir.Live, recs(0, 20))
	items := readAll(t, l, id, weir.Live)
	var odd, even []Item
	for _, it := range items {
		if it.Seq%2 == 1 {
			odd = append(odd, it)
		} else {
			even = append(even, it)
		}
	}
	for _, batch := range [][]Item{odd, even[:5], odd, {{Seq: 21, Gap: &weir.Gap{First: 21, Last: 21, Reason: "x", Exact: true}}}} {
		if err := l.AddDead(id, weir.Live, batch, "too large"); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)
	l = mustOpen(t, small(dir))
	if err := l.AddDead(id, weir.Live, items, "topic deleted"); err != nil {
		t.Fatal(err)
	}
	dead := allDead(t, l)
	if len(dead) != 20 {
		t.Fatalf("%d dead letters, want 20", len(dead))
	}
	for i, d := range dead {
		reason := "too large"
		if i >= 15 {
			reason = "topic deleted"
		}
		if d.Buffer != id || d.Lane != weir.Live || d.Reason != reason || !reflect.DeepEqual(d.Record, rec(int(d.Seq-1))) {
			t.Fatalf("dead letter %d: %+v", i, d)
		}
	}
	if s := l.Stats(); s.DeadRecords != 20 || s.DeadBytes == 0 {
		t.Fatalf("Stats %+v", s)
	}
	want := fmt.Errorf("enough")
	if err := l.EachDead(func(Dead) error { return want }); err == nil {
		t.Error("the error of fn was lost")
	}
}

func TestDeadQuota(t *testing.T) {
	dir := t.TempDir()
	o := small(dir)
	o.DeadQuota = 20 << 10
	l := mustOpen(t, o)
	for i := range 100 {
		id, first := mustAppend(t, l, weir.Bulk, recs(i*5, 5))
		items, err := l.Read(id, weir.Bulk, first)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.AddDead(id, weir.Bulk, items, "no"); err != nil {
			t.Fatal(err)
		}
	}
	s := l.Stats()
	if s.DeadBytes > o.DeadQuota || s.DeadRecords+s.DeadDropped != 500 || s.DeadDropped == 0 {
		t.Fatalf("Stats %+v", s)
	}
	dead := allDead(t, l)
	if uint64(len(dead)) != s.DeadRecords || dead[len(dead)-1].Seq != 500 || dead[0].Seq != s.DeadDropped+1 {
		t.Fatalf("%d dead letters, %d to %d", len(dead), dead[0].Seq, dead[len(dead)-1].Seq)
	}
}

func TestDamagedDead(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	id, _ := mustAppend(t, l, weir.Live, recs(0, 30))
	items := readAll(t, l, id, weir.Live)
	for i := 0; i < 30; i += 10 {
		if err := l.AddDead(id, weir.Live, items[i:i+10], "no"); err != nil {
			t.Fatal(err)
		}
	}
	abandon(l)
	path := filepath.Join(dir, deadName, "00000001"+letterSuffix)
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p[len(p)/2] ^= 1
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, small(dir))
	if n := len(allDead(t, l)); n != 20 {
		t.Fatalf("%d dead letters, want 20", n)
	}
	if err := l.AddDead(id, weir.Live, items, "no"); err != nil {
		t.Fatal(err)
	}
	if n := len(allDead(t, l)); n != 30 {
		t.Fatalf("%d dead letters, want 30", n)
	}
	if _, err := l.Read(id, weir.Live, 31); err != io.EOF {
		t.Fatal(err)
	}
}

func TestSpans(t *testing.T) {
	rnd, _ := newRand(t)
	for range 200 {
		var s seqSet
		set := map[uint64]bool{}
		for range rnd.IntN(60) {
			seq := 1 + rnd.Uint64N(40)
			s, set[seq] = s.add(seq), true
		}
		for seq := range uint64(45) {
			if s.has(seq) != set[seq] {
				t.Fatalf("%v: has(%d) = %v", s, seq, s.has(seq))
			}
		}
		for i := 1; i < len(s); i++ {
			if s[i].first <= s[i-1].last+1 {
				t.Fatalf("%v: ranges touch", s)
			}
		}
	}
}
