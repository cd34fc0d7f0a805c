package wal

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

func openLetters(t *testing.T, o Options) *Log {
	t.Helper()
	o.Reserve = -1
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func letterOf(l *Letters, t *testing.T, client string, size int) Letter {
	t.Helper()
	seq, err := l.Next()
	if err != nil {
		t.Fatal(err)
	}
	return Letter{Seq: seq, Client: client, Topic: "a/b", QoS: 1, Time: 1_700_000_000_000, Reason: "no", Payload: make([]byte, size), Size: int64(size)}
}

func letterSeqs(t *testing.T, l *Letters) (seqs []uint64) {
	t.Helper()
	if err := l.Each(func(letter Letter) error { seqs = append(seqs, letter.Seq); return nil }); err != nil {
		t.Fatal(err)
	}
	return seqs
}

// TestLetters: what was added is there after a restart, as it was, and numbers go on.
func TestLetters(t *testing.T) {
	dir := t.TempDir()
	l := openLetters(t, Options{Dir: dir})
	sum := sha256.Sum256([]byte("whole"))
	want := []Letter{
		{Seq: 1, Client: "c", Topic: "$SYS/x", QoS: 2, Time: -5, Reason: "reserved", Payload: []byte("p"), Size: 1},
		{Seq: 2, Client: "", Topic: "", Time: 7, Reason: "", Size: 1 << 40, Payload: []byte("beginning"), Hash: sum[:]},
	}
	for i := range want {
		if err := l.Letters().Add(want[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		var got []Letter
		if err := l.Letters().Each(func(letter Letter) error { got = append(got, letter); return nil }); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if len(got[i].Hash) == 0 {
				got[i].Hash = nil
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v", got)
		}
		for seq, stored := range map[uint64]bool{1: true, 2: true, 3: false} {
			if ok, err := l.Letters().Stored(seq); err != nil || ok != stored {
				t.Errorf("letter %d stored: %v %v", seq, ok, err)
			}
		}
		if next, err := l.Letters().Next(); err != nil || next != 3 {
			t.Errorf("next is %d, %v", next, err)
		}
		l.Close()
		l = openLetters(t, Options{Dir: dir})
	}
}

// TestLettersOfOneClient: a client's own oldest letters are evicted for its newer ones, as
// Evictions has announced, and a restart removes nothing.
func TestLettersOfOneClient(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, LetterQuota: 1 << 20, ClientLetters: 100 << 10}
	l := openLetters(t, o)
	if err := l.Letters().Add([]Letter{letterOf(l.Letters(), t, "quiet", 100)}); err != nil {
		t.Fatal(err)
	}
	evicted := uint64(0)
	for range 300 {
		batch := []Letter{letterOf(l.Letters(), t, "loud", 4000)}
		gone, err := l.Letters().Evictions(batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range gone {
			if e.Client != "loud" {
				t.Fatalf("%d letters of %q give way", e.Letters, e.Client)
			}
			evicted += e.Letters
		}
		if err := l.Letters().Add(batch); err != nil {
			t.Fatal(err)
		}
	}
	seqs := letterSeqs(t, l.Letters())
	if seqs[0] != 1 || seqs[len(seqs)-1] != 301 || uint64(len(seqs))+evicted != 301 {
		t.Fatalf("%d evicted, left %v", evicted, seqs)
	}
	if s, err := l.Letters().Stats(); err != nil || s.Letters != uint64(len(seqs)) || s.Evicted != evicted || s.Bytes > s.Quota {
		t.Errorf("stats %+v %v", s, err)
	}
	l.Close()
	again := openLetters(t, o)
	got := letterSeqs(t, again.Letters())
	for _, seq := range seqs {
		if !slices.Contains(got, seq) {
			t.Errorf("letter %d is gone after a restart: %v, before %v", seq, got, seqs)
		}
	}
	if s, err := again.Letters().Stats(); err != nil || s.Bytes > s.Quota {
		t.Errorf("stats %+v %v", s, err)
	}
}

// TestLettersOfAll: when all clients together have too many letters, the oldest are evicted,
// and the files do not take more than the quota.
func TestLettersOfAll(t *testing.T) {
	dir := t.TempDir()
	l := openLetters(t, Options{Dir: dir, LetterQuota: 512 << 10, ClientLetters: 64 << 10})
	evicted := uint64(0)
	for i := range 2000 {
		batch := []Letter{letterOf(l.Letters(), t, fmt.Sprint("client ", i), 10)}
		gone, err := l.Letters().Evictions(batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range gone {
			evicted += e.Letters
		}
		if err := l.Letters().Add(batch); err != nil {
			t.Fatal(err)
		}
	}
	seqs := letterSeqs(t, l.Letters())
	if n := uint64(len(seqs)); evicted == 0 || n+evicted != 2000 || seqs[0] != evicted+1 {
		t.Fatalf("%d evicted, %d left from %d on", evicted, n, seqs[0])
	}
	var size int64
	files, err := filepath.Glob(filepath.Join(dir, lettersName, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if size > 512<<10 {
		t.Errorf("%d bytes on the disk", size)
	}
}

// TestLettersFault: a letter whose write failed is not stored, its number is not used
// again, and later ones go on.
func TestLettersFault(t *testing.T) {
	for _, at := range []step{stepList, stepListSync, stepMkdir, stepDirSync} {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprint(at, " applied ", applied), func(t *testing.T) {
				dir, fail := t.TempDir(), false
				o := Options{Dir: dir}
				o.disk.do = func(s step, path string, f func() error) error {
					if !fail || s != at {
						return f()
					}
					if applied {
						f()
					}
					return errors.New("disk fails")
				}
				l := openLetters(t, o)
				fail = true
				bad := []Letter{letterOf(l.Letters(), t, "c", 10)}
				if err := l.Letters().Add(bad); err == nil {
					t.Fatal("no error")
				}
				if ok, err := l.Letters().Stored(bad[0].Seq); ok || err != nil {
					t.Errorf("stored: %v %v", ok, err)
				}
				fail = false
				good := []Letter{letterOf(l.Letters(), t, "c", 10)}
				if good[0].Seq == bad[0].Seq {
					t.Error("the number is used again")
				}
				if err := l.Letters().Add(good); err != nil {
					t.Fatal(err)
				}
				l.Close()
				seqs := letterSeqs(t, openLetters(t, Options{Dir: dir}).Letters())
				if n := len(seqs); n == 0 || n > 2 || seqs[n-1] != good[0].Seq {
					t.Errorf("after a restart: %v", seqs)
				}
			})
		}
	}
}

// TestLettersDamage: damage in a file costs the letters in it at most, and no start.
func TestLettersDamage(t *testing.T) {
	dir := t.TempDir()
	l := openLetters(t, Options{Dir: dir})
	for range 3 {
		if err := l.Letters().Add([]Letter{letterOf(l.Letters(), t, "c", 100)}); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	path := filepath.Join(dir, lettersName, "00000001.dead")
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p[len(p)/2] ^= 0x40 // in the second of them
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	l = openLetters(t, Options{Dir: dir})
	if got := letterSeqs(t, l.Letters()); !reflect.DeepEqual(got, []uint64{1, 3}) {
		t.Errorf("left %v", got)
	}
}

func FuzzLetters(f *testing.F) {
	f.Add(appendLetters(nil, []Letter{{Seq: 1, Client: "c", Topic: "t", Reason: "r", Payload: []byte("p"), Size: 1}}), uint32(1))
	f.Fuzz(func(t *testing.T, p []byte, count uint32) {
		batch, err := parseLetters(p, count)
		if err != nil {
			return
		}
		if got := appendLetters(nil, batch); len(batch) > 0 && len(got) > len(p) {
			t.Errorf("%d bytes became %d", len(p), len(got))
		} else if again, err := parseLetters(got, count); err != nil || len(again) != len(batch) || len(batch) > 0 && !bytes.Equal(again[0].Payload, batch[0].Payload) {
			t.Errorf("%+v became %+v: %v", batch, again, err)
		}
	})
}
