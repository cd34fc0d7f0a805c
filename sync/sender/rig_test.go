package sender_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/wire"
	"github.com/weirmq/weir/sync/wire/wiretest"
)

const gateway = "gw-1"

// rig is a gateway and a node over an in-memory link, in a synctest bubble.
type rig struct {
	t    *testing.T
	log  *fakeLog
	disk *fakeBuffers
	opts sender.Options
	node receiver.Options

	mu     sync.Mutex
	recv   *receiver.Receiver
	link   *wiretest.Link
	down   bool
	older  bool // the node does not know any feature
	shape  wiretest.Options
	send   *sender.Sender
	stop   func() // ends send
	served sync.WaitGroup
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, log: newFakeLog(), disk: newFakeBuffers()}
	r.node = receiver.Options{Attach: r.log.attach(), Resolve: r.log.Resolve, Cluster: func() string { return "c1" }, Node: "n1", Logger: logger(t)}
	r.opts = sender.Options{
		Buffers: r.disk, Addrs: []string{"node-1"}, Gateway: gateway, Dial: r.dial, Plain: true, Logger: logger(t),
	}
	r.startNode()
	return r
}

// logger shows what the two ends log when WEIR_TEST_LOG is set.
func logger(t testing.TB) *slog.Logger {
	if os.Getenv("WEIR_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func (r *rig) startNode() {
	recv, err := receiver.New(r.node)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.recv = recv
	r.mu.Unlock()
}

// dialled returns the sender's end of a link as its session.
func dialled(l *wiretest.Link) sender.Session {
	return sender.Session{OpenStream: l.Gateway.OpenStream, Close: l.Gateway.Close}
}

// sessionOf returns the receiver's end of a link as its session.
func sessionOf(node *wiretest.End) receiver.Session {
	return receiver.Session{Peer: node.Peer(), AcceptStream: node.AcceptStream, Close: node.Close}
}

func (r *rig) dial(ctx context.Context, addr string) (sender.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return sender.Session{}, errors.New("network is unreachable")
	}
	o := r.shape
	o.Peer = wire.Peer{Addr: "pipe", Gateway: gateway}
	r.link = wiretest.New(o)
	recv, node := r.recv, sessionOf(r.link.Node)
	if r.older {
		node.AcceptStream = (&oldNode{accept: node.AcceptStream}).acceptStream
	}
	r.served.Go(func() { recv.Handle(node) })
	return dialled(r.link), nil
}

func (r *rig) start() {
	s, err := sender.New(r.opts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.send = s
	r.stop = run(s)
}

// run runs a sender until stop is called, which waits for it.
func run(s *sender.Sender) (stop func()) {
	_, stop = start(s)
	return stop
}

// start is run that also tells when the sender has ended.
func start(s *sender.Sender) (ended <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	return done, func() {
		cancel()
		<-done
	}
}

// restart is a kill of the gateway: what it knew is gone, its disk is there.
func (r *rig) restart() {
	r.cut(false)
	r.stop()
	r.disk.open()
	r.start()
}

func (r *rig) cut(keep bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.link != nil {
		r.link.Cut(keep)
	}
}

func (r *rig) close() {
	r.stop()
	r.recv.Close()
	r.served.Wait()
}

func (r *rig) put(lane weir.Lane, topic, key, value string) {
	r.disk.put(lane, topic, record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte(key), Value: []byte(value)})
}

// settle waits until nothing is left on the disk, in the bubble's time.
func (r *rig) settle(within time.Duration) error {
	for end := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		items, buffers := r.disk.left()
		if items == 0 && buffers == 1 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d items in %d buffers are left; state %+v", items, buffers, r.send.State())
		}
	}
}

func (r *rig) mustSettle() {
	r.t.Helper()
	if err := r.settle(time.Minute); err != nil {
		r.t.Fatal(err)
	}
}

func values(all []landed) string {
	var out []string
	for _, r := range all {
		out = append(out, string(r.record.Value))
	}
	return strings.Join(out, " ")
}
