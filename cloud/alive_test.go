package cloud

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/storage/mem"
)

// TestAlive: a node that answers is alive, a leading one as well as one that has just
// begun; one that has had a silent door for minutes is not.
func TestAlive(t *testing.T) {
	var ready atomic.Int32
	n, err := Open(t.Context(), Options{Bucket: mem.New(), Data: t.TempDir(), Node: "a", Sync: Off, HTTP: HTTP{Listen: Off}, Peer: Off,
		Kafka: []listener.Settings{{Name: "default", Listen: "127.0.0.1:0"}}, Partitions: 1, Takeover: time.Second,
		Ready: func() { ready.Add(1) }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	// Nothing serves the door yet.
	if err := n.Alive(t.Context()); err != nil {
		t.Errorf("a door has been silent for a moment: %v", err)
	}
	n.pulse.silent = time.Now().Add(-2 * doorPatience)
	if n.Alive(t.Context()) == nil {
		t.Error("a door has been silent for minutes, and the node is alive")
	}
	served := make(chan error, 1)
	go func() { served <- n.kafka.Serve() }()
	if err := n.Alive(t.Context()); err != nil {
		t.Errorf("the door answers: %v", err)
	}
	if !n.pulse.silent.IsZero() {
		t.Error("a door that answers is remembered as silent")
	}
	n.sayReady()
	n.sayReady()
	if ready.Load() != 1 {
		t.Errorf("told %d times that it is ready", ready.Load())
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
