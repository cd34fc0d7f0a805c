package wal

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/weir"
)

// TestKill appends in a child process, kills it with SIGKILL at a random
// moment, and opens what it left, several times over.
func TestKill(t *testing.T) {
	if dir := os.Getenv("WAL_TEST_KILL"); dir != "" {
		appendForever(dir)
	}
	rnd, _ := newRand(t)
	dir := t.TempDir()
	stored := map[stream]map[uint64]int{}
	total := 0
	for round := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "WAL_TEST_KILL="+dir, fmt.Sprint("WAL_TEST_BASE=", round*1_000_000))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(20+rnd.IntN(250))*time.Millisecond, func() { cmd.Process.Kill() })
		in := bufio.NewScanner(out)
		for in.Scan() {
			if s, first, n, count, ok := parseAck(in.Bytes()); ok {
				if stored[s] == nil {
					stored[s] = map[uint64]int{}
				}
				for i := range count {
					stored[s][first+uint64(i)] = n + i
				}
				total += count
			}
		}
		timer.Stop()
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
	}
	if total == 0 {
		t.Fatal("nothing was stored")
	}
	t.Logf("%d records in %d streams", total, len(stored))
	l := mustOpen(t, small(dir))
	for s, want := range stored {
		items := readAll(t, l, s.id, s.lane)
		if len(items) < len(want) {
			t.Fatalf("%v: %d records, want %d", s, len(items), len(want))
		}
		for i, it := range items {
			if it.Gap != nil || it.Seq != uint64(i+1) {
				t.Fatalf("%v: item %d is %+v", s, i, it)
			}
			if n, ok := want[it.Seq]; ok && !reflect.DeepEqual(it.Record, rec(n)) {
				t.Fatalf("%v: record %d is not the one that was stored", s, it.Seq)
			}
		}
	}
}

// appendForever is the child: it says what is stored after it is.
func appendForever(dir string) {
	var base int
	fmt.Sscan(os.Getenv("WAL_TEST_BASE"), &base)
	o := small(dir)
	o.SegmentSize = 32 << 10
	l, err := Open(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	rnd := rand.New(rand.NewPCG(uint64(base), 1))
	for n := base; ; {
		ln, count := weir.Lane(rnd.IntN(weir.Lanes)), 1+rnd.IntN(60)
		id, first, err := l.Append(ln, recs(n, count))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Stdout.Write(fmt.Appendf(nil, "stored %x %d %d %d %d\n", id[:], ln, first, n, count))
		n += count
	}
}

func parseAck(line []byte) (s stream, first uint64, n, count int, ok bool) {
	var id []byte
	if !bytes.HasPrefix(line, []byte("stored ")) {
		return s, 0, 0, 0, false
	}
	_, err := fmt.Sscanf(string(line), "stored %x %d %d %d %d", &id, &s.lane, &first, &n, &count)
	copy(s.id[:], id)
	return s, first, n, count, err == nil
}
