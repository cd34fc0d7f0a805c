package cluster

import (
	"context"
	"math/rand/v2"
	"syscall"
	"time"
)

// fault is something that goes wrong in a cluster, and is right again when inject
// returns.
type fault struct {
	name   string
	needs  func(bucket string) bool // nil: it fits every bucket
	inject func(ctx context.Context, f *field)
}

// field is where faults happen.
type field struct {
	*nodes
	store *store
	rng   *rand.Rand
	log   func(format string, args ...any)
}

func remote(bucket string) bool { return bucket != "file" }

// faults lists all faults.
func faults() []fault {
	return []fault{
		{name: "kill", inject: kill},
		{name: "freeze", inject: freeze},
		{name: "cut nodes", inject: cutNodes},
		{name: "cut bucket", needs: remote, inject: cutBucket},
		{name: "cut one way", inject: cutOneWay},
		{name: "bucket busy", needs: func(bucket string) bool { return bucket == "minio" }, inject: busyBucket},
		{name: "roll", inject: roll},
		{name: "drain", inject: drain},
		{name: "add", inject: add},
	}
}

func (f *field) pick() *node { return f.all[f.rng.IntN(len(f.all))] }

// two picks two different nodes.
func (f *field) two() (a, b *node) {
	i := f.rng.IntN(len(f.all))
	j := (i + 1 + f.rng.IntN(len(f.all)-1)) % len(f.all)
	return f.all[i], f.all[j]
}

func (f *field) between(least, most time.Duration) time.Duration {
	return least + time.Duration(f.rng.Int64N(int64(most-least)))
}

// kill ends a node with SIGKILL. It is started again, at once or later.
func kill(ctx context.Context, f *field) {
	x, away := f.pick(), f.between(0, 6*time.Second)
	f.log("kill %s for %v", x.name, away.Round(time.Millisecond))
	x.stayDown(true)
	x.life().Signal(syscall.SIGKILL)
	pause(ctx, away)
	x.stayDown(false)
}

// freeze stops a node with SIGSTOP for a while.
func freeze(ctx context.Context, f *field) {
	x, length := f.pick(), f.between(time.Second, 8*time.Second)
	if f.rng.IntN(4) == 0 && soak() {
		length = f.between(8*time.Second, 30*time.Second)
	}
	f.log("freeze %s for %v", x.name, length.Round(time.Millisecond))
	p := x.life()
	p.Signal(syscall.SIGSTOP)
	pause(ctx, length)
	p.Signal(syscall.SIGCONT)
}

// cutNodes cuts two nodes off from each other. Both reach all others, clients and the
// bucket.
func cutNodes(ctx context.Context, f *field) {
	a, b := f.two()
	length := f.between(2*time.Second, 10*time.Second)
	f.log("cut %s and %s for %v", a.name, b.name, length.Round(time.Millisecond))
	f.lab.drop(a.host, b.host.ip)
	f.lab.drop(b.host, a.host.ip)
	pause(ctx, length)
	f.lab.heal(a.host, b.host.ip)
	f.lab.heal(b.host, a.host.ip)
}

// cutOneWay loses what one node sends to another one.
func cutOneWay(ctx context.Context, f *field) {
	a, b := f.two()
	length := f.between(2*time.Second, 10*time.Second)
	f.log("cut from %s to %s for %v", a.name, b.name, length.Round(time.Millisecond))
	f.lab.drop(a.host, b.host.ip)
	pause(ctx, length)
	f.lab.heal(a.host, b.host.ip)
}

// cutBucket cuts a node off from the bucket. It answers other nodes and clients.
func cutBucket(ctx context.Context, f *field) {
	x, length := f.pick(), f.between(2*time.Second, 10*time.Second)
	f.log("cut %s off from the bucket for %v", x.name, length.Round(time.Millisecond))
	f.lab.drop(x.host, bucketIP)
	pause(ctx, length)
	f.lab.heal(x.host, bucketIP)
}

// busyBucket makes the bucket answer most requests of all nodes with 503.
func busyBucket(ctx context.Context, f *field) {
	length := f.between(2*time.Second, 8*time.Second)
	f.log("the bucket refuses 8 of 10 requests for %v", length.Round(time.Millisecond))
	f.store.failing.Store(80)
	pause(ctx, length)
	f.store.failing.Store(0)
}

// roll stops each node in good order and starts it again, one after the other.
func roll(ctx context.Context, f *field) {
	f.log("restart all nodes, one after the other")
	for _, x := range f.all {
		p := x.life()
		p.Signal(syscall.SIGTERM)
		select {
		case <-p.Exited():
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil && x.life() == p {
			pause(ctx, 20*time.Millisecond)
		}
	}
}

// drain stops a node in good order for a while.
func drain(ctx context.Context, f *field) {
	x, away := f.pick(), f.between(2*time.Second, 8*time.Second)
	f.log("stop %s for %v", x.name, away.Round(time.Millisecond))
	x.stayDown(true)
	x.life().Signal(syscall.SIGTERM)
	pause(ctx, away)
	x.stayDown(false)
}

// add starts another node, if there is a host for it.
func add(ctx context.Context, f *field) {
	if len(f.all) == len(f.lab.hosts) {
		kill(ctx, f)
		return
	}
	x := f.add()
	f.log("added %s", x.name)
}
