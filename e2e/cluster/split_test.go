package cluster

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// TestSplit: a cluster gets more shards while it works, and nodes are killed in the middle of
// that.
func TestSplit(t *testing.T) {
	once := []fault{{name: "split", inject: split}}
	if !soak() {
		t.Run("1 shard into 4", func(t *testing.T) { round(t, "redis", 1, once, noQueues) })
		return
	}
	twice := append(once, once...)
	for i := range 10 {
		t.Run(fmt.Sprintf("1 shard into 4 and 8, %d", i+1), func(t *testing.T) { round(t, "redis", 1, twice, noQueues) })
		t.Run(fmt.Sprintf("4 shards into 8 and 16, %d", i+1), func(t *testing.T) { round(t, "redis", 4, twice) })
	}
}

// split gives the cluster more shards. In the middle of it a node is killed, which the one
// that splits may be. Then it is asked for again, until it is done.
func split(ctx context.Context, f *field) {
	into := 2 * f.shards
	if f.shards == 1 {
		into = 4
	}
	x, victim, at := f.pick(), f.pick(), f.between(0, 400*time.Millisecond)
	f.log("split %d shards into %d, asked of %s; kill %s after %v", f.shards, into, x.name, victim.name, at.Round(time.Millisecond))
	var killing sync.WaitGroup
	killing.Go(func() {
		pause(ctx, at)
		victim.life().Signal(syscall.SIGKILL)
	})
	for late := time.Now().Add(2 * time.Minute); ctx.Err() == nil; pause(ctx, 500*time.Millisecond) {
		out, errs, err := harness.RunIn(x.host.namespace, "weirctl", "shards", "split", "--to", strconv.Itoa(into), "--cloud", "http://127.0.0.1:8080", "--data", f.dir+"/"+x.name)
		if err == nil || strings.Contains(errs, fmt.Sprintf("there are %d with data already", into)) {
			break
		}
		f.log("not split: %s%s", out, errs)
		if time.Now().After(late) {
			f.nodes.t.Errorf("the shards are not split: %s", errs)
			break
		}
		x = f.pick()
	}
	killing.Wait()
	f.shards = into
	f.log("split into %d", into)
}
