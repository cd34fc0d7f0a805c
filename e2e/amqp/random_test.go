package amqp

import (
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/e2e/rabbit"
)

var seed = flag.Uint64("seed", 0, "play the random sequence of this seed only")

// TestRandom plays random sequences of operations at a RabbitMQ and at weir-cloud. After
// each one both have answered alike, and their queues have as many messages and consumers.
// A sequence in which they differ is made shorter as long as they still do. The seeds are
// the same in each run; with WEIR_SOAK they are others.
func TestRandom(t *testing.T) {
	const length = 40
	first, most, limit := uint64(1), uint64(20), 12*time.Second
	if os.Getenv("WEIR_SOAK") != "" {
		first, most, limit = rand.Uint64N(1<<40), math.MaxUint64, 10*time.Minute
	}
	if *seed != 0 {
		first, most = *seed, 1
	}
	b := &pair{names: newCatalogue(), urls: [2]string{rabbit.Start(t).URL, startWeir(t)}}
	s := first
	for began := time.Now(); s == first || s-first < most && time.Since(began) < limit; s++ {
		all := operations(s, length)
		m, err := b.play(t.Context(), all)
		if err == nil && m != nil {
			m, err = b.shrink(t.Context(), all, m)
		}
		if err != nil {
			t.Fatalf("seed %d: %v", s, err)
		}
		if m != nil {
			t.Errorf("seed %d:\n%v", s, m)
		}
	}
	t.Logf("%d sequences of %d operations from seed %d on", s-first, length, first)
}

// startWeir starts a weir-cloud and returns its URL.
func startWeir(t *testing.T) string {
	t.Helper()
	cluster := &harness.Cluster{Dir: t.TempDir(), CloudArgs: []string{"--amqp", "127.0.0.1:0"}}
	cluster.Bucket = "file:" + filepath.Join(cluster.Dir, "bucket")
	if err := cluster.StartCloud(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	return "amqp://guest:guest@" + cluster.Cloud.Addr["amqp"] + "/"
}
