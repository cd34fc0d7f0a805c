package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
)

// TestDamagedBuffer: the edge is killed with the link down and a backlog on
// its disk, and the newest file of the backlog is damaged. The edge must boot,
// report what it lost as gaps, and deliver the rest.
func TestDamagedBuffer(t *testing.T) {
	for name, damage := range map[string]func(*rand.Rand, []byte) []byte{
		"truncated": func(rng *rand.Rand, b []byte) []byte { return b[:rng.IntN(len(b))] },
		"zeroed": func(rng *rand.Rand, b []byte) []byte {
			clear(b[rng.IntN(len(b)):])
			return b
		},
		"flipped": func(rng *rand.Rand, b []byte) []byte {
			for range 1 + rng.IntN(5) {
				b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) { damageBuffer(t, damage) })
	}
}

func damageBuffer(t *testing.T, damage func(*rand.Rand, []byte) []byte) {
	rng := newRand(t)
	whole := 0
	report := hurtBacklog(t, func(dir string) {
		path := newestSegment(t, dir)
		body := readFile(t, path)
		whole = len(body)
		body = damage(rng, body)
		writeFile(t, path, body)
		t.Logf("damaged %s: %d bytes, now %d", path, whole, len(body))
	})
	if report.Reported > 0 {
		t.Logf("%d of %d readings were in the damaged bytes and are reported", report.Reported, report.Acked)
	}
	// A reading takes well over 64 bytes, and what is lost with a damaged
	// byte is at most the frame around it.
	if most := whole / 64; report.Reported > most {
		t.Errorf("%d readings are missing, more than the damaged file can have held (%d)", report.Reported, most)
	}
}

// TestMissingFromBuffer: the edge is killed with the link down and a backlog on its
// disk, and what would say how much there was goes missing with it. The edge must
// boot, report what it lost as gaps, and deliver the rest.
func TestMissingFromBuffer(t *testing.T) {
	for name, hurt := range map[string]func(t *testing.T, lane string){
		"newest marks and last frame": func(t *testing.T, lane string) {
			marks := filepath.Join(lane, "marks")
			slot := newestSlot(readFile(t, marks))
			spoil(t, marks, slot, slot+64)
			segment := newestSegment(t, lane)
			body := readFile(t, segment)
			spoil(t, segment, bytes.LastIndex(body, []byte("\xf7WFr")), len(body))
		},
		"segments and marks": func(t *testing.T, lane string) {
			spoil(t, filepath.Join(lane, "marks"), 0, 576)
			segments, err := filepath.Glob(filepath.Join(lane, "0*"))
			if err != nil || len(segments) == 0 {
				t.Fatalf("no segments in %s: %v", lane, err)
			}
			for _, path := range segments {
				removeAll(t, path)
			}
		},
		"folder of the lane":   removeAll,
		"folder of the buffer": func(t *testing.T, lane string) { removeAll(t, filepath.Dir(lane)) },
	} {
		t.Run(name, func(t *testing.T) {
			report := hurtBacklog(t, func(dir string) { hurt(t, filepath.Dir(newestSegment(t, dir))) })
			if report.Reported == 0 {
				t.Error("nothing was lost")
			}
			if report.Received < 1000 {
				t.Errorf("%d readings were read: those before the backlog and after the loss are not missing", report.Received)
			}
			t.Logf("%d of %d readings are reported", report.Reported, report.Acked)
		})
	}
}

// newestSlot is where the slot with the higher generation lies in a file of marks.
func newestSlot(marks []byte) int {
	generation := func(at int) uint64 { return binary.BigEndian.Uint64(marks[at+8:]) }
	if generation(0) > generation(512) {
		return 0
	}
	return 512
}

// spoil changes the bytes of a file between two offsets.
func spoil(t *testing.T, path string, from, to int) {
	t.Helper()
	body := readFile(t, path)
	for i := from; i < to; i++ {
		body[i] ^= 0x55
	}
	writeFile(t, path, body)
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func writeFile(t *testing.T, path string, body []byte) {
	t.Helper()
	if err := os.WriteFile(path, body, 0o640); err != nil {
		t.Fatal(err)
	}
}

// hurtBacklog delivers some readings, cuts the link, piles up a backlog, kills the
// edge, lets hurt at its buffers, starts it again, and audits what comes out.
func hurtBacklog(t *testing.T, hurt func(buffers string)) audit.Report {
	perDevice := 400
	if soak() {
		perDevice = 4000
	}
	c := open(t, &harness.Cluster{})
	auditor := audit.New()
	var fault atomic.Pointer[error]
	fault.Store(new(error))
	run := func(prefix string, count int) {
		fleet := c.Fleet(50, 0, 1)
		fleet.Prefix, fleet.Count, fleet.Event = prefix, count, auditor.Event
		fleet.Fault = func(err error) { fault.Store(&err) }
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var stats device.Stats
		fleet.Run(ctx, &stats)
		if got := stats.Acked.Load(); got != int64(50*count) {
			t.Fatalf("%d of %d readings acked; last fault: %v", got, 50*count, *fault.Load())
		}
	}
	run("before", 10)
	within(t, time.Minute, "delivery of what came before", func() bool { return buffered(t, c) == 0 })
	c.Link.Cut()
	run("backlog", perDevice)
	c.Edge.Kill()
	hurt(filepath.Join(c.Dir, "edge", "log", "buffers"))
	if err := c.StartEdge(); err != nil {
		t.Fatal(err)
	}
	c.Link.Heal()
	run("after", 10)
	return settle(t, c.Reader(""), auditor)
}

// buffered is how many records the edge holds that the cloud has not.
func buffered(t *testing.T, c *harness.Cluster) int {
	resp, err := http.Get("http://" + c.Edge.Addr["http"] + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var health struct {
		Records int `json:"buffered_records"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&health); err != nil {
		t.Fatal(err)
	}
	return health.Records
}

// newestSegment finds the file that was written last.
func newestSegment(t *testing.T, dir string) string {
	t.Helper()
	var newest string
	var when time.Time
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Trim(d.Name(), "0123456789") != "" {
			return err // segments are named by a number
		}
		info, err := d.Info()
		if err == nil && info.Size() > 0 && (newest == "" || info.ModTime().After(when)) {
			newest, when = path, info.ModTime()
		}
		return err
	})
	if err != nil || newest == "" {
		t.Fatalf("no segment below %s: %v", dir, err)
	}
	return newest
}
