package mqtt

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// owedLog opens a log in the directory, with what the state file knows.
func owedLog(t *testing.T, dir string, k known) (l *OwedLog, got map[uint64]string, lost uint64, logged string) {
	t.Helper()
	var b bytes.Buffer
	l, err := OpenOwed(dir, 64<<20, slog.New(slog.NewTextHandler(&b, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got = make(map[uint64]string)
	lost, err = l.load(k, func(s *segment, number uint64, body []byte) {
		got[number] = string(body)
		l.owe(s, 1, 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, got, lost, b.String()
}

// fillOwed appends records in files of five, and returns what the state file knows
// of them.
func fillOwed(t *testing.T, l *OwedLog, n int) known {
	t.Helper()
	k := known{segments: make(map[uint64]knownSegment)}
	before := uint64(0)
	for i := range n {
		if i%5 == 0 && i > 0 {
			l.segments[len(l.segments)-1].full = true
		}
		s, fresh := l.open()
		if fresh {
			if is, found := k.segments[before]; found {
				is.end = s.first
				k.segments[before] = is
			}
			k.segments[s.first] = knownSegment{salt: s.salt}
			before = s.first
		}
		if err := l.append(s, [][]byte{fmt.Appendf(nil, "record %d", i+1)}); err != nil {
			t.Fatal(err)
		}
		l.owe(s, 1, 1)
	}
	k.last = l.last()
	return k
}

// TestOwedLogDamage damages each byte of each file, cuts it, and removes it: it
// opens, what is whole is there, and what is not is reported.
func TestOwedLogDamage(t *testing.T) {
	dir := t.TempDir()
	l, _, _, _ := owedLog(t, dir, known{})
	const n = 13
	k := fillOwed(t, l, n)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	check := func(what string, k known, least int) {
		t.Helper()
		again, got, lost, logged := owedLog(t, dir, k)
		if len(got)+int(lost) != n || len(got) < least || lost > 0 != strings.Contains(logged, "missing") {
			t.Fatalf("%s: %d of %d are there, %d are reported: %s", what, len(got), n, lost, logged)
		}
		for number, body := range got {
			if body != fmt.Sprint("record ", number) {
				t.Fatalf("%s: %d is %q", what, number, body)
			}
		}
		if again.last() != n {
			t.Fatalf("%s: the last is %d", what, again.last())
		}
	}
	check("whole", k, n)
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write := func(p []byte) {
			t.Helper()
			if err := os.WriteFile(path, p, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for i := range whole {
			broken := bytes.Clone(whole)
			broken[i] ^= 1 << (i % 8)
			write(broken)
			check(fmt.Sprint(f.Name(), " byte ", i), k, n-1)
			write(whole[:i])
			check(fmt.Sprint(f.Name(), " cut at ", i), k, n-5)
			write(append(whole[:i:i], make([]byte, 4096)...))
			check(fmt.Sprint(f.Name(), " zeros from ", i), k, n-5)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		check(f.Name()+" gone", k, n-5)
		write(whole)
	}
	// A tail that a crash tore was never acknowledged, so it is no loss.
	last := filepath.Join(dir, files[2].Name())
	whole, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	torn := appendOwed(nil, n+1, []byte("torn"), k.segments[11].salt)
	if err := os.WriteFile(last, append(whole, torn[:len(torn)-1]...), 0o600); err != nil {
		t.Fatal(err)
	}
	check("torn", k, n)
}

// TestOwedLogFiles: a file is removed when nothing of it is owed any more and the state file
// says so. One that a crash left behind is removed at the next start.
func TestOwedLogFiles(t *testing.T) {
	dir := t.TempDir()
	l, _, _, _ := owedLog(t, dir, known{})
	k := fillOwed(t, l, 13)
	for number := uint64(6); number <= 10; number++ {
		if !l.settle(number, 1) || l.settle(number, 2) {
			t.Fatalf("%d is not settled, or was owed to another one", number)
		}
	}
	gone := l.settled()
	if len(gone) != 1 || gone[0].first != 6 || len(l.settled()) != 0 {
		t.Fatalf("%d files are settled", len(gone))
	}
	delete(k.segments, 6)
	again, got, lost, _ := owedLog(t, dir, k) // the crash comes before the file is removed
	if len(got) != 8 || lost != 0 || again.last() != 13 {
		t.Fatalf("%d are there, %d are lost", len(got), lost)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Fatalf("%d files", len(files))
	}
	// Nothing is appended behind what an earlier process wrote.
	s, fresh := again.open()
	if !fresh || s.first != 14 {
		t.Fatalf("the next file begins with %d", s.first)
	}
}

// TestOwedLogFails: after a write that failed nothing is there of it, and when
// it cannot be taken back nothing more is written until it can.
func TestOwedLogFails(t *testing.T) {
	dir := t.TempDir()
	l, _, _, _ := owedLog(t, dir, known{})
	k := fillOwed(t, l, 3)
	s, _ := l.open()
	whole := l.file
	readOnly, err := os.Open(l.path(s.first))
	if err != nil {
		t.Fatal(err)
	}
	l.file = readOnly
	for range 2 {
		if err := l.append(s, [][]byte{[]byte("x")}); err == nil || !l.failed {
			t.Fatal("no error")
		}
	}
	l.file = whole
	size := s.size
	if err := l.append(s, [][]byte{[]byte("record 4"), []byte("record 5")}); err != nil {
		t.Fatal(err)
	}
	if err := l.undo(s, size, 2); err != nil {
		t.Fatal(err)
	}
	if err := l.append(s, [][]byte{[]byte("record 4")}); err != nil {
		t.Fatal(err)
	}
	readOnly.Close()
	_, got, lost, _ := owedLog(t, dir, k)
	if len(got) != 4 || lost != 0 || got[4] != "record 4" {
		t.Fatalf("%v, %d lost", got, lost)
	}
}

// FuzzOwedRecord: what decodes is no larger than it says, and nothing panics.
func FuzzOwedRecord(f *testing.F) {
	m := sampleMessage()
	to := []recipient{{number: 3, qos: 1}, {number: 0, qos: 1}, {number: 300, qos: 2, retain: true, identifiers: []int{1, 200}, share: "$share/g/a/+"}}
	f.Add(encodeOwed(appendOwedTo(nil, to), m))
	f.Add(encodeReplay(7, &subscription{filter: "a/#", qos: 2, identifier: 5}))
	r, err := decodeOwed(encodeOwed(appendOwedTo(nil, to), m))
	if err != nil || len(r.to) != 2 || string(r.message.Payload) != string(m.Payload) {
		f.Fatalf("%+v, %v", r, err)
	}
	if d, ok := r.delivery(300); !ok || d.qos != 2 || !d.retain || len(d.identifiers) != 2 || d.share != "$share/g/a/+" {
		f.Fatalf("%+v", d)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := decodeOwed(p)
		if err != nil {
			return
		}
		for _, to := range r.to {
			r.delivery(to.number)
		}
	})
}
