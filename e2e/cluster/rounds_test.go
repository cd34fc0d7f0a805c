package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

func soak() bool { return os.Getenv("WEIR_SOAK") != "" }

// seed is that of WEIR_SEED, or a new one.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := os.Getenv("WEIR_SEED")
	if s == "" {
		return uint64(time.Now().UnixNano())
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("WEIR_SEED: %v", err)
	}
	return n
}

// TestFaults: whatever goes wrong, nothing that was acknowledged is lost, doubled or out
// of order.
func TestFaults(t *testing.T) {
	if !soak() {
		t.Run("4 shards on redis", func(t *testing.T) { round(t, "redis", 4, faults()) })
		t.Run("1 shard on file", func(t *testing.T) { round(t, "file", 1, faults()) })
		return
	}
	for i := range 15 {
		for _, shards := range []int{1, 4} {
			for _, kind := range []string{"redis", "file", "minio"} {
				t.Run(fmt.Sprintf("%d shards on %s, %d", shards, kind, i+1), func(t *testing.T) { round(t, kind, shards, faults()) })
			}
		}
	}
}

// option changes a round.
type option int

// noQueues: the nodes have no door for AMQP, and nobody uses work queues.
const noQueues option = 1

// round runs all work on three nodes while each of the faults that fit the bucket is
// injected once, in any order, then judges.
func round(t *testing.T, kind string, shards int, all []fault, options ...option) {
	s := seed(t)
	t.Logf("WEIR_SEED=%d", s)
	rng := rand.New(rand.NewPCG(s, 0))
	l := newLab(t, 4)
	b := newStore(t, kind)
	t.Cleanup(func() { checkBucket(t, b.url) }) // after the nodes have stopped
	if slices.Contains(options, noQueues) {
		b.flags = append(b.flags, "--amqp", "off")
	}
	n := startNodes(t, l, b.url, shards, 3, b.flags...)
	work := works(t, n)
	if slices.Contains(options, noQueues) {
		delete(work, "queue")
	}
	began := time.Now()
	f := &field{nodes: n, store: b, rng: rng, log: func(format string, args ...any) {
		t.Logf("%6.1f s: "+format, append([]any{time.Since(began).Seconds()}, args...)...)
	}}
	stop := runAll(t.Context(), work)
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, x := range all {
		if x.needs != nil && !x.needs(kind) {
			continue
		}
		pause(t.Context(), f.between(500*time.Millisecond, 4*time.Second))
		x.inject(t.Context(), f)
	}
	pause(t.Context(), 3*time.Second)
	f.log("nothing is wrong any more")
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for _, w := range work {
		w.judge(ctx)
	}
}

// checkBucket runs weirctl check.
func checkBucket(t *testing.T, url string) {
	out, stderr, err := harness.Run("weirctl", "check", url)
	if err != nil {
		t.Errorf("weirctl check %s: %v\n%s%s", url, err, out, stderr)
		return
	}
	t.Logf("check: %s", strings.TrimSpace(out))
}
