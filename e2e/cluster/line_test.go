package cluster

import (
	"context"
	"sync"
	"testing"

	"github.com/weirmq/weir/e2e/linear"
)

const lines = 3 // topics

// line is clients that append to partitions and ask for their ends. Each partition must
// be linearizable.
type line struct {
	t         *testing.T
	nodes     *nodes
	histories []*linear.History
}

func newLine(t *testing.T, n *nodes) *line {
	t.Helper()
	l := &line{t: t, nodes: n}
	for i := range lines {
		name := string(rune('a'+i)) + "-line"
		createTopic(t, n, name, 1)
		l.histories = append(l.histories, linear.New(name))
	}
	return l
}

func (l *line) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for i, h := range l.histories {
		for id := range 2 {
			all.Go(func() {
				if err := h.Client(ctx, i*2+id, l.nodes.kafka()...); err != nil {
					l.t.Error(err)
				}
			})
		}
	}
}

func (l *line) judge(ctx context.Context) {
	for _, h := range l.histories {
		v, err := h.Check(ctx, l.nodes.kafka()...)
		if err != nil {
			l.t.Error(err)
			continue
		}
		l.t.Logf("line: %d calls; %d others were not answered, and %d of them had happened", v.Calls, v.Unknown, v.Happened)
		if !v.Linearizable || v.Calls == 0 {
			l.t.Error("a partition is not linearizable, or that was not decided within a minute")
		}
	}
}
