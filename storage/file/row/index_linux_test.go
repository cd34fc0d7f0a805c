package row

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manyPacks makes a row of many packs with groups of two pages, and returns their
// paths.
func manyPacks(t testing.TB, dir string, groups, perPack int) (packs []string) {
	b := mustOpen(t, dir)
	b.disk.Sync = func(*os.File) error { return nil }
	b.disk.Data = b.disk.Sync
	b.smallest = int64(1+2*perPack) * page
	b.largest = b.smallest
	for n := range uint64(groups + 1) {
		if err := b.Create(t.Context(), slot(1, n), make([]byte, page)); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	packs, err := filepath.Glob(filepath.Join(dir, "0000/log/*/pack-*"))
	if err != nil || len(packs) < groups/perPack {
		t.Fatalf("%d packs for %d groups, %v", len(packs), groups, err)
	}
	return packs
}

// reads returns how many system calls have read, and how many bytes.
func reads(t testing.TB) (calls, bytes int64) {
	p, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(p)) {
		name, digits, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, err := strconv.ParseInt(digits, 10, 64)
		switch {
		case err != nil:
			t.Fatal(err)
		case name == "syscr":
			calls = n
		case name == "rchar":
			bytes = n
		}
	}
	return calls, bytes
}

// openAll opens a folder and finds all numbers in its row.
func openAll(t testing.TB, dir string, want int) {
	b := mustOpen(t, dir)
	defer b.Close()
	names, err := b.Names(t.Context(), "0000/log/"+formatNumber(1))
	if err != nil || len(names) != want {
		t.Fatalf("%d names, %v, want %d", len(names), err, want)
	}
}

// TestIndexReads: to open a row takes a few reads for each pack, not for each group, and
// the reads are small.
func TestIndexReads(t *testing.T) {
	const groups = 2000
	for _, perPack := range []int{10, 100} {
		dir := t.TempDir()
		packs := manyPacks(t, dir, groups, perPack)
		calls, bytes := reads(t)
		openAll(t, dir, groups)
		c, b := reads(t)
		calls, bytes = c-calls, b-bytes
		t.Logf("%d groups in %d packs: %d reads of %d bytes", groups, len(packs), calls, bytes)
		// The groups of the last pack are read one by one.
		if most := int64(6*len(packs) + 3*perPack + 50); calls > most {
			t.Errorf("%d packs take %d reads, more than %d", len(packs), calls, most)
		}
		if most := int64(500*len(packs) + 40*groups + 2*page*perPack + 20*page); bytes > most {
			t.Errorf("%d packs take %d bytes, more than %d", len(packs), bytes, most)
		}
	}
}

// BenchmarkOpen compares, in turns, opening a row with indexes and without, with its
// files in memory and not.
func BenchmarkOpen(b *testing.B) {
	for _, perPack := range []int{20, 200} {
		b.Run(fmt.Sprintf("groups=%d", perPack), func(b *testing.B) {
			const groups = 8000
			with, without := b.TempDir(), b.TempDir()
			packs := [2][]string{manyPacks(b, with, groups, perPack), manyPacks(b, without, groups, perPack)}
			for _, name := range packs[1] {
				if err := os.Truncate(name, int64(1+2*perPack)*page); err != nil {
					b.Fatal(err)
				}
			}
			var spent [2][2]time.Duration
			rounds := 0
			for b.Loop() {
				rounds++
				for cold := range 2 {
					for i, dir := range []string{with, without} {
						if cold == 1 {
							forgetFiles(b, packs[i])
						}
						start := time.Now()
						openAll(b, dir, groups)
						spent[cold][i] += time.Since(start)
					}
				}
			}
			for cold, name := range []string{"warm", "cold"} {
				for i, kind := range []string{"index", "scan"} {
					b.ReportMetric(float64(spent[cold][i].Microseconds())/float64(rounds*len(packs[0])), name+"-"+kind+"-µs/pack")
				}
				b.ReportMetric(float64(spent[cold][1])/float64(spent[cold][0]), name+"-scan/index")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// forgetFiles makes the system drop what it has of files in memory.
func forgetFiles(b *testing.B, names []string) {
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			b.Fatal(err)
		}
		if err = f.Sync(); err == nil {
			err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		}
		if f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
