package file

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/disk"
	"github.com/weirmq/weir/storage/storagetest"
)

// childDir is set for a process that creates objects in that folder until it
// is killed, and prints each key when its Create has returned, "-key" before it deletes
// an object and "=key" when its Delete has returned.
const (
	childDir   = "WEIR_FILE_TEST_DIR"
	childNamed = "WEIR_FILE_TEST_NAMED"
	childRound = "WEIR_FILE_TEST_ROUND"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir, os.Getenv(childRound))
	}
	os.Exit(m.Run())
}

func child(dir, round string) {
	b, err := Open(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	b.disk.Named = os.Getenv(childNamed) != ""
	storage.SetLevel(b, 2)
	storage.Sequences(b, "log/")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("r%s/w%d/%04d/%04d", round, w, i/10, i)
				if w%2 == 0 { // two of them write the row of their round
					key = fmt.Sprintf("log/%s/%020d", strings.Repeat("0", 20-len(round))+round, 2*i+w/2)
				}
				if err := b.Create(context.Background(), key, body(key)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				os.Stdout.WriteString(key + "\n") // one write(2) per line
				if i < 10 || w%2 == 1 || i%7 == 0 {
					continue
				}
				// In a row some are kept and those around them deleted: see row/hole.go.
				old := fmt.Sprintf("log/%s/%020d", strings.Repeat("0", 20-len(round))+round, 2*(i-10)+w/2)
				os.Stdout.WriteString("-" + old + "\n")
				if err := b.Delete(context.Background(), old); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				os.Stdout.WriteString("=" + old + "\n")
			}
		})
	}
	wg.Wait()
}

// body is the object that belongs under a key; its size depends on it too.
func body(key string) []byte {
	h := fnv.New32a()
	h.Write([]byte(key))
	return storagetest.Content(key, int(h.Sum32()%100_000))
}

// TestKill: a process that creates objects is killed at random moments. Each
// object that is there is whole, each one that was acked is there, and no
// temporary file outlives the next Open.
func TestKill(t *testing.T) {
	eachMethod(t, func(t *testing.T, open func(*testing.T, string) *Bucket) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		dir := t.TempDir()
		named := open(t, dir).disk.Named

		var acked []string
		for round := range 5 {
			acked = append(acked, runAndKill(t, dir, named, round, time.Duration(rng.IntN(int(150*time.Millisecond))))...)

			b := open(t, dir)
			if round%2 == 1 { // half of the rows are closed before they are read
				key := fmt.Sprintf("log/%020d/%020d", round, uint64(1<<40))
				if err := b.Create(t.Context(), key, body(key)); err != nil {
					t.Fatal(err)
				}
				acked = append(acked, key)
			}
			if left, err := os.ReadDir(b.disk.TempDir()); err != nil || len(left) != 0 {
				t.Errorf("%d temporary files are left (%v)", len(left), err)
			}
			there := make(map[string]bool)
			keys, err := b.List(t.Context(), "", "", 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range keys {
				there[key] = true
				if got, err := b.Get(t.Context(), key, 0, -1); err != nil || !bytes.Equal(got, body(key)) {
					t.Errorf("%s is not whole: %d bytes, %v", key, len(got), err)
				}
			}
			wantAcked(t, acked, there)
			t.Logf("round %d: %d objects, %d lines, %d packs with holes", round, len(keys), len(acked), packsWithHoles(t, dir))
		}
		if len(acked) == 0 {
			t.Error("nothing was acked in any round")
		}
	})
}

// wantAcked checks that what children created is there, and what they deleted is not.
func wantAcked(t *testing.T, lines []string, there map[string]bool) {
	t.Helper()
	deleting := make(map[string]bool)
	for _, line := range lines {
		if key, ok := strings.CutPrefix(line, "-"); ok {
			deleting[key] = true
		}
	}
	for _, line := range lines {
		if key, deleted := strings.CutPrefix(line, "="); deleted && there[key] {
			t.Errorf("%s was deleted and is there", key)
		}
		if line[0] != '-' && line[0] != '=' && !there[line] && !deleting[line] {
			t.Errorf("%s was acked and is not there", line)
		}
	}
}

func packsWithHoles(t *testing.T, dir string) (n int) {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(dir, "log", "*", "pack-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range packs {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		used, err := disk.Used(f)
		if err != nil {
			t.Fatal(err)
		}
		if used < info.Size() {
			n++
		}
	}
	return n
}

// runAndKill lets a child work from its first ack on for the given time, kills
// it and returns what it acked.
func runAndKill(t *testing.T, dir string, named bool, round int, after time.Duration) (acked []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, fmt.Sprintf("%s=%d", childRound, round))
	if named {
		cmd.Env = append(cmd.Env, childNamed+"=1")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // the end of the child; half a line is no ack
		}
		if len(acked) == 0 {
			time.AfterFunc(after, func() { cmd.Process.Kill() })
		}
		acked = append(acked, strings.TrimSpace(line))
	}
	cmd.Wait()
	if stderr.Len() > 0 {
		t.Fatalf("child: %s", stderr.String())
	}
	return acked
}
