package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
	"github.com/weirmq/weir/sync/wire/wiretest"
)

const (
	forbidden = "forbidden" // a topic that no gateway may have
	badSuffix = "!"         // of a reading that the cloud never takes
	topicA    = "a"
	topicB    = "b"
)

// mutations says which rules of the real and of the simulated parts are broken.
type mutations struct {
	sender   sender.Mutations
	receiver receiver.Mutations
	uplink   uplink.Mutations
	log      commitlog.Mutations
	card     cardMutations
	cloud    cloudMutations
}

// reading is a record that a gateway was given.
type reading struct {
	gateway  int
	lane     weir.Lane
	topic    string
	key      string
	place    place
	accepted bool // durable on the gateway: a device was told so
	bad      bool // the cloud refuses it for good
	damaged  bool // spoiled on the disk after it was accepted
	lostCard bool // accepted after the image that came back was taken
}

// world is one schedule while it runs. Its fields belong to the goroutine that
// runs the schedule, but for those under mu.
type world struct {
	t         *testing.T
	s         schedule
	mutations mutations
	bucket    archive
	gws       []*gateway
	nodeNo    int
	books     []*reading
	names     map[weir.TopicID]string // guarded by mu
	lives     map[string]bool         // topics that were created again
	hasBad    atomic.Bool
	logger    *slog.Logger
	slog      *slog.Logger
	began     time.Time

	catalogue *commitlog.Log // of a schedule of several shards
	running   sync.WaitGroup // what paths do

	mu      sync.Mutex
	owners  map[uint32]*node   // of a schedule of several shards, the newest of each; guarded by mu
	paths   map[[2]*node]*path // by door and owner; guarded by mu
	nodes   map[string]*node   // by address: those that lead, or try to; guarded by mu
	all     []*node            // every process there was; guarded by mu
	rng     *rand.Rand         // of what happens at random; guarded by mu
	trouble bool               // guarded by mu
	moving  uint32             // partitions that take nothing while there is trouble, as bits; guarded by mu
	latency time.Duration      // of the link, guarded by mu
	slow    time.Duration      // of the bucket, guarded by mu
	failed  error              // guarded by mu
	lines   []string           // guarded by mu
}

// gateway is one gateway: its disk, and the process that runs on it.
type gateway struct {
	w        *world
	no       int
	id       string
	disk     disk
	send     *sender.Sender
	done     chan struct{} // closed when send has ended; nil while the gateway is off
	end      func()        // ends send
	restored bool          // an image came back
	kept     int           // readings in the books when the image was taken, -1: no image
	firm     []bool        // which of them were durable then

	mu   sync.Mutex
	link *wiretest.Link // guarded by mu
	down bool           // guarded by mu: no network
}

// run runs one schedule in a bubble of its own.
func run(t *testing.T, s schedule, m mutations, newDisk func(*world, int) disk) (lines []string, err error) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, m)
		defer func() { lines = w.lines }()
		w.build(newDisk)
		for _, a := range s.acts {
			w.do(a)
			if a.wait > 0 {
				time.Sleep(a.wait)
			}
		}
		err = w.judge()
		if failed := w.failure(); failed != nil {
			err = failed
		}
	})
	return lines, err
}

// judge lets the world come to rest and compares the books.
func (w *world) judge() error {
	var l *ledger
	err := w.settle()
	if err == nil {
		l, err = w.read()
	}
	if err == nil {
		err = w.audit(l)
	}
	w.close()
	if err == nil {
		err = w.reread()
	}
	if err == nil {
		err = w.check()
	}
	return err
}

func newWorld(t *testing.T, s schedule, m mutations) *world {
	w := &world{
		t: t, s: s, mutations: m, names: map[weir.TopicID]string{}, lives: map[string]bool{},
		slog: slog.New(slog.DiscardHandler), began: time.Now(), nodes: map[string]*node{}, owners: map[uint32]*node{}, paths: map[[2]*node]*path{},
		rng: rand.New(rand.NewPCG(s.seed, 3)), latency: s.pace, slow: s.pace,
	}
	if os.Getenv("WEIR_TEST_LOG") != "" {
		w.slog = slog.New(slog.NewTextHandler(t.Output(), nil))
		w.logger = w.slog
	}
	w.bucket = archive{mem.New(), mem.New()}
	if m.cloud.Overwrites {
		w.bucket = archive{overwriting{w.bucket.Bucket}, overwriting{w.bucket.kept}}
	}
	return w
}

// build starts everything, with two topics.
func (w *world) build(newDisk func(*world, int) disk) {
	if w.several() {
		w.openCatalogue()
		w.startDoor("n0")
		w.startDoor("n1")
		for _, id := range w.shardIDs() {
			w.startOwner(id)
		}
	} else {
		w.startNode("n0")
	}
	synctest.Wait()
	for w.leader() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	for name, n := range map[string]int32{topicA: int32(1 + w.roll(3)), topicB: 1} {
		w.createTopic(name, n)
	}
	for i := range w.s.gateways {
		g := &gateway{w: w, no: i, id: fmt.Sprint("gw-", i), disk: newDisk(w, i), kept: -1}
		w.gws = append(w.gws, g)
		g.boot()
	}
}

func (w *world) createTopic(name string, partitions int32) {
	log := w.leader()
	if w.several() {
		log = w.catalogue
	}
	if log == nil {
		return
	}
	t, err := log.CreateTopic(context.Background(), name, partitions, nil)
	if err != nil {
		w.say("topic %s is not created: %v", name, err)
		return
	}
	w.mu.Lock()
	w.names[t.ID] = name
	w.mu.Unlock()
	w.say("topic %s is %x with %d partitions", name, t.ID[:3], partitions)
}

func (w *world) nameOf(id weir.TopicID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.names[id]
}

func (w *world) say(format string, args ...any) {
	if !w.s.trace {
		return
	}
	line := fmt.Sprintf("%10v  ", time.Since(w.began)) + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, line)
}

func (w *world) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

func (w *world) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

func (w *world) roll(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// chance is one in n.
func (w *world) chance(n int) bool { return w.roll(n) == 0 }

// pace is how long a call of the bucket takes.
func (w *world) pace() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slow
}

func (w *world) troubled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trouble
}

// transit is how long something takes on the link.
func (w *world) transit() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return upTo(w.rng, w.latency)
}

// boot starts the gateway's process.
func (g *gateway) boot() {
	if g.done != nil {
		return
	}
	buffers, err := g.disk.boot()
	if err != nil {
		g.w.fail(fmt.Errorf("NO BOOT: %w", err))
		return
	}
	addrs := []string{"n0"}
	if g.w.s.addrs > 1 {
		addrs = append(addrs, "n1")
	}
	g.send, err = sender.New(sender.Options{
		Buffers: buffers, Addrs: addrs, Gateway: g.id, Dial: g.dial, Plain: true,
		Window: g.w.s.window, Batch: g.w.s.batch, Logger: g.w.logger, Mutations: g.w.mutations.sender,
	})
	if err != nil {
		panic(err)
	}
	ctx, end := context.WithCancel(context.Background())
	send, done := g.send, make(chan struct{})
	g.done, g.end = done, end
	go func() {
		send.Run(ctx)
		if ctx.Err() == nil {
			g.w.fail(errors.New("GAVE UP"))
		}
		close(done)
	}()
	g.w.say("%s boots", g.id)
}

// kill ends the gateway's process. What it still does, does not reach the disk.
func (g *gateway) kill(a uint32) {
	if g.done == nil {
		return
	}
	g.cut(a%2 == 0)
	if err := g.disk.kill(a / 2); err != nil {
		g.w.fail(fmt.Errorf("NO KILL: %w", err))
	}
	g.stop()
	g.w.say("%s is killed", g.id)
}

// stop waits until nothing of the process runs.
func (g *gateway) stop() {
	g.end()
	<-g.done
	g.done = nil
}

func (g *gateway) cut(keep bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.link != nil {
		g.link.Cut(keep)
		g.link = nil
	}
}

var errNoNetwork = errors.New("network is unreachable")

// dialled returns the sender's end of a link as its session.
func dialled(l *wiretest.Link) sender.Session {
	return sender.Session{OpenStream: l.Gateway.OpenStream, Close: l.Gateway.Close}
}

// sessionOf returns the receiver's end of a link as its session.
func sessionOf(node *wiretest.End) receiver.Session {
	return receiver.Session{Peer: node.Peer(), AcceptStream: node.AcceptStream, Close: node.Close}
}

func (g *gateway) dial(_ context.Context, addr string) (sender.Session, error) {
	g.w.mu.Lock()
	n := g.w.nodes[addr]
	g.w.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if n == nil || g.down {
		return sender.Session{}, errNoNetwork
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		return sender.Session{}, errNoNetwork
	}
	g.link = wiretest.New(wiretest.Options{Peer: wire.Peer{Addr: g.id, Gateway: g.id}, Latency: g.w.transit})
	n.links = append(n.links, g.link)
	end := g.link.Node
	n.gone.Go(func() { n.recv.Handle(sessionOf(end)) })
	g.w.say("%s dials %s", g.id, addr)
	return dialled(g.link), nil
}

// publish gives the gateway readings of one lane.
func (g *gateway) publish(a, b uint32, bad bool) {
	if g.done == nil {
		return
	}
	w := g.w
	topic := []string{topicA, topicA, topicA, topicB}[a%4]
	lane := weir.Lane([]int{1, 1, 1, 0, 2}[a/4%5])
	if bad && a/32%4 == 0 {
		topic = forbidden
	}
	var recs []record.Record
	first := len(w.books)
	for i := range 1 + int(b%5) {
		r := &reading{gateway: g.no, lane: lane, topic: topic, key: "k" + strconv.Itoa(int(b/8+uint32(i)*7)%6)}
		r.bad = topic == forbidden || bad && i == int(b/64%3)
		v := strconv.Itoa(len(w.books))
		if r.bad {
			w.hasBad.Store(true)
			v += badSuffix
		}
		w.books = append(w.books, r)
		recs = append(recs, record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte(r.key), Value: []byte(v)})
	}
	synced := a/128%6 > 0
	places, err := g.disk.put(lane, topic, recs, synced)
	if err != nil {
		w.fail(fmt.Errorf("NOT ACCEPTED: %w", err))
		return
	}
	for i, p := range places {
		w.books[first+i].place = p
	}
	if synced {
		g.accept(places)
	}
	w.say("%s takes %d to %d (topic %s, from %v, bad %v, synced %v)", g.id, first, len(w.books)-1, topic, places[0], bad, synced)
}

// accept notes that readings are durable, and those before them in their lane.
func (g *gateway) accept(places []place) {
	for _, p := range places {
		for _, r := range g.w.books {
			if r.gateway == g.no && r.place.buffer == p.buffer && r.place.lane == p.lane && r.place.seq <= p.seq && r.place.seq > 0 {
				r.accepted = true
			}
		}
	}
}

func (w *world) close() {
	for _, g := range w.gws {
		if g.done != nil {
			g.cut(false)
			g.stop()
		}
		if err := g.disk.close(); err != nil {
			w.fail(err)
		}
	}
	w.mu.Lock()
	all := w.all
	w.mu.Unlock()
	for _, n := range all {
		n.mu.Lock()
		dead := n.dead
		n.mu.Unlock()
		if !dead {
			n.stop()
			if n.recv != nil {
				n.recv.Close()
			}
		}
	}
	for _, n := range all {
		n.cutPaths(false)
	}
	for _, n := range all {
		n.gone.Wait()
	}
	w.running.Wait()
	if w.catalogue != nil {
		if err := w.catalogue.Close(); err != nil {
			w.fail(err)
		}
	}
}

// kindOf is the part of a verdict that names the invariant.
func kindOf(err error) string {
	kind, _, _ := strings.Cut(err.Error(), ":")
	return kind
}
