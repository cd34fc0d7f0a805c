package measure

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/budget"
)

func TestPool(t *testing.T) {
	r := New()
	pool, err := r.Pool(budget.PoolOptions{Name: "test", Bytes: 1 << 20, Reserve: 1 << 10, Largest: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if pool.Peer("a").TryTake(100) == nil {
		t.Fatal("no room")
	}
	r.Waiting("test")(3 * time.Second)
	var out bytes.Buffer
	r.WritePrometheus(&out)
	for _, want := range []string{`weir_budget_used_bytes{pool="test"} 100`, `weir_budget_waiting_seconds_sum{pool="test"} 3`, `weir_budget_waiting_seconds_count{pool="test"} 1`,
		`weir_budget_waiting_seconds_count{pool="inflate"} 0`} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if _, err := r.Pool(budget.PoolOptions{Name: "none"}); err == nil {
		t.Error("a pool of no bytes")
	}
}
