package model

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/weir"
)

// callTime bounds the calls that a schedule makes itself: the log may be dead.
const callTime = 300 * time.Millisecond

// do lets one event happen.
func (w *world) do(x act) {
	g := w.gws[int(x.a>>16)%len(w.gws)]
	switch x.op {
	case opPublish, opBad:
		g.publish(x.a, x.b, x.op == opBad)
	case opSync:
		g.sync()
	case opKill:
		g.kill(x.a)
	case opBoot:
		g.boot()
	case opCut:
		w.say("%s loses its link, what is in flight arrives: %v", g.id, x.a%2 == 0)
		g.cut(x.a%2 == 0)
	case opNet:
		g.mu.Lock()
		g.down = !g.down
		w.say("%s has no network: %v", g.id, g.down)
		g.mu.Unlock()
		if x.a%2 == 0 {
			g.cut(x.a%4 == 0)
		}
	case opNodeKill:
		if w.several() {
			w.killOne(x)
			return
		}
		w.killNode(x)
	case opNodeStart:
		if w.several() {
			w.startOne(x)
			return
		}
		w.takeOver(x)
	case opPath:
		w.cutPath(x)
	case opLand:
		w.land(x)
	case opWait:
		time.Sleep(time.Duration(x.a%1000) * time.Millisecond)
	case opSlow:
		w.mu.Lock()
		w.latency = []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 40 * time.Millisecond}[x.a%4]
		w.slow = []time.Duration{0, 2 * time.Millisecond, 30 * time.Millisecond, time.Second}[x.b%4]
		w.mu.Unlock()
	case opTrouble:
		w.mu.Lock()
		w.trouble, w.moving = !w.trouble, x.b
		w.mu.Unlock()
	case opGrow, opRecreate:
		w.changeTopic(x)
	case opKeep:
		w.keep(x)
	default:
		w.card(g, x)
	}
}

// sync makes durable what was put.
func (g *gateway) sync() {
	if g.done == nil {
		return
	}
	places, err := g.disk.sync()
	if err != nil {
		g.w.fail(fmt.Errorf("NO SYNC: %w", err))
	}
	g.accept(places)
}

// killNode kills a process of the cloud.
func (w *world) killNode(x act) {
	w.mu.Lock()
	var n *node
	for _, addr := range []string{"n0", "n1"} {
		if found := w.nodes[addr]; found != nil && (n == nil || x.a%2 == 0) {
			n = found
		}
	}
	w.mu.Unlock()
	if n == nil {
		return
	}
	w.say("node %s is killed", n.addr)
	n.kill()
	for range x.b % 3 {
		n.bucket.LandOne()
	}
	if x.b/4%4 == 0 {
		n.bucket.Forget()
	}
}

// takeOver starts a process, beside the one that leads if there is an address
// for it.
func (w *world) takeOver(x act) {
	w.mu.Lock()
	addr := "n0"
	if w.s.addrs > 1 && (w.nodes[addr] != nil || x.a%2 == 0) {
		addr = "n1"
	}
	taken := w.nodes[addr] != nil
	w.mu.Unlock()
	if taken {
		return
	}
	w.say("node %s starts", addr)
	w.startNode(addr)
}

// land lets a PUT arrive whose answer nobody waits for any more.
func (w *world) land(x act) {
	w.mu.Lock()
	n := w.all[int(x.a)%len(w.all)]
	w.mu.Unlock()
	if n.bucket.LandOne() {
		w.say("a PUT of a process at %s lands", n.addr)
	}
}

// keep lets one of those that have not heard that they are not the owner begin a
// pass of upkeep.
func (w *world) keep(x act) {
	w.mu.Lock()
	all := slices.Clone(w.all)
	w.mu.Unlock()
	all = slices.DeleteFunc(all, func(n *node) bool { return n.leads() == nil })
	if len(all) == 0 {
		return
	}
	n := all[int(x.a)%len(all)]
	log := n.leads()
	if log == nil {
		return // it has just found out
	}
	w.say("node %s begins a pass of upkeep", n.addr)
	n.gone.Go(func() {
		err := log.Maintain(context.Background())
		w.say("upkeep of node %s, epoch %d, is through: %v", n.addr, log.Epoch(), err)
	})
}

// changeTopic grows a topic, or deletes it and creates it again.
func (w *world) changeTopic(x act) {
	log := w.leader()
	name := []string{topicA, topicA, topicB}[x.b%3]
	if x.op == opGrow && x.b/3%3 == 0 {
		name = weir.GapTopic
	}
	if w.several() {
		w.growTopic(name)
		return
	}
	if log == nil {
		return
	}
	t, ok := log.Topic(name)
	if !ok {
		w.createTopic(name, 2)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	if x.op == opRecreate {
		w.lives[name] = true
		err := log.DeleteTopic(ctx, t.ID)
		w.say("topic %s (%x) is deleted: %v", name, t.ID[:3], err)
		if err == nil {
			w.createTopic(name, int32(1+x.a%3))
		}
		return
	}
	if t.Partitions < 5 {
		err := log.GrowTopic(ctx, t.ID, t.Partitions+1)
		w.say("topic %s grows to %d: %v", name, t.Partitions+1, err)
	}
}

// card is what can happen to a gateway's disk.
func (w *world) card(g *gateway, x act) {
	switch x.op {
	case opBackup:
		if err := g.disk.image(); err != nil {
			w.fail(fmt.Errorf("NO IMAGE: %w", err))
			return
		}
		g.kept, g.firm = len(w.books), nil
		for _, r := range w.books {
			g.firm = append(g.firm, r.accepted)
		}
		w.say("%s: an image of the card is taken", g.id)
	case opRestore:
		if g.kept < 0 {
			return
		}
		g.kill(x.a)
		if ok, err := g.disk.restore(); err != nil || !ok {
			w.fail(fmt.Errorf("NO RESTORE: %v, %w", ok, err))
			return
		}
		g.restored = true
		for i, r := range w.books {
			if r.gateway == g.no && (i >= g.kept || !g.firm[i]) {
				r.lostCard = true
			}
		}
		w.say("%s: the image comes back", g.id)
		g.boot()
	case opDamage:
		g.kill(x.a)
		gone, err := g.disk.damage(x.a, x.b)
		if err != nil {
			w.fail(fmt.Errorf("NO DAMAGE: %w", err))
			return
		}
		var hit []int
		for i, r := range w.books {
			if r.gateway == g.no && gone(r.place) {
				r.damaged = true
				hit = append(hit, i)
			}
		}
		w.say("%s: damage to %v", g.id, hit)
		g.boot()
	case opAge:
		w.age(g)
	}
}

// age lets more buffers come and go than the cloud remembers.
func (w *world) age(g *gateway) {
	log := w.leader()
	if log == nil || g.done == nil {
		return
	}
	g.kill(0)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 258 {
		id, ok := g.disk.age()
		if !ok {
			break
		}
		wg.Go(func() { log.Retire(ctx, g.id, id) })
	}
	wg.Wait()
	w.say("%s: 258 buffers come and go", g.id)
	g.boot()
}

// settle heals everything and waits until all is delivered.
func (w *world) settle() error {
	w.say("-- all is healed")
	w.mu.Lock()
	w.trouble, w.latency, w.slow = false, min(w.latency, time.Millisecond), min(w.slow, time.Millisecond)
	all := append([]*node(nil), w.all...)
	led := len(w.nodes) > 0
	w.mu.Unlock()
	for _, n := range all {
		n.bucket.Land()
	}
	if w.several() {
		w.complete()
	} else if !led {
		w.startNode("n0")
	}
	for _, g := range w.gws {
		g.mu.Lock()
		g.down = false
		g.mu.Unlock()
		if g.done != nil && w.s.restart {
			g.kill(0)
		}
		g.boot()
		g.sync()
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if err := w.failure(); err != nil {
			return err
		}
		if w.settled() {
			return nil
		}
		if time.Now().After(end) {
			return w.stuck()
		}
		w.confirm()
	}
}

// confirm lets nodes find out that they are not the owner, and starts one when
// there is none.
func (w *world) confirm() {
	w.mu.Lock()
	all := append([]*node(nil), w.all...)
	led := len(w.nodes) > 0
	w.mu.Unlock()
	if w.several() {
		w.complete()
	} else if !led {
		w.startNode("n0")
	}
	for _, n := range all {
		if log := n.leads(); log != nil {
			ctx, cancel := context.WithTimeout(context.Background(), callTime)
			log.Confirm(ctx)
			cancel()
		}
	}
}

func (w *world) settled() bool {
	for _, g := range w.gws {
		if items, buffers := g.disk.left(g.aside()); items > 0 || buffers > 1 {
			return false
		}
	}
	return true
}

// aside are the buffers that the cloud does not want, as it may have forgotten
// them. With a card that is older than 256 openings the current one is among
// them, and each one after it until the counter has caught up: what they hold is
// accepted and not delivered, which this test does not count as stuck.
func (g *gateway) aside() map[weir.BufferID]bool {
	skip := map[weir.BufferID]bool{}
	for _, id := range g.send.State().Aside {
		skip[id] = true
	}
	return skip
}

func (w *world) stuck() error {
	for _, g := range w.gws {
		if items, buffers := g.disk.left(g.aside()); items > 0 || buffers > 1 {
			return fmt.Errorf("STUCK: %s has %d items in %d buffers; state %+v", g.id, items, buffers, g.send.State())
		}
	}
	return nil
}
