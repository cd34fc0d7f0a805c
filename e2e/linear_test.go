package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/linear"
)

// TestLinearizable: a partition is linearizable over kills of the node.
func TestLinearizable(t *testing.T) {
	rounds, kills := 1, 4
	if soak() {
		rounds, kills = 20, 8
	}
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) { linearizable(t, kills) })
	}
}

func linearizable(t *testing.T, kills int) {
	c := cloud(t)
	createTopics(t, c, 1, "line")
	h := linear.New("line")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for id := range 6 {
		clients.Go(func() {
			if err := h.Client(ctx, id, c.Kafka()); err != nil {
				t.Error(err)
			}
		})
	}
	for range kills {
		pause := time.NewTimer(time.Duration(300+rand.IntN(700)) * time.Millisecond)
		<-pause.C
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	clients.Wait()
	limited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	v, err := h.Check(limited, c.Kafka())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d calls; of %d others nobody heard, and %d of them had happened", v.Calls, v.Unknown, v.Happened)
	if !v.Linearizable {
		path := filepath.Join(t.TempDir(), "history.html")
		if err := v.Draw(path); err != nil {
			t.Error(err)
		}
		t.Error("the history is not linearizable, or was not decided within a minute")
	}
	if v.Calls < 100 {
		t.Error("too little happened")
	}
}
