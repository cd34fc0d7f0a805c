package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/uplink"
)

// A schedule of several shards has an owner for each of them, a process without a
// receiver, and two doors, processes without a log. Owners are killed and replaced, with
// the former one dead or not; doors are killed and started; the paths between them lose
// what is in transit or deliver it late. The catalogue is in shard 0 and does not move.

// dataShards is how many shards take records.
const dataShards = 3

// several reports whether the schedule has several shards.
func (w *world) several() bool { return w.s.several }

// shardIDs are the shards that take records.
func (w *world) shardIDs() []uint32 {
	if !w.several() {
		return []uint32{0}
	}
	return []uint32{1, 2, 3}
}

// shardCount is that of the cluster when it is created.
func (w *world) shardCount() int {
	if !w.several() {
		return 1
	}
	return 1 + dataShards
}

// route returns the shard that has a slice.
func (w *world) route(s weir.Slice) uint32 {
	if !w.several() {
		return 0
	}
	return 1 + uint32(s)%dataShards
}

// openCatalogue opens the log of shard 0.
func (w *world) openCatalogue() {
	log, err := commitlog.Open(context.Background(), commitlog.Options{Bucket: w.bucket, Shards: w.shardCount(), Node: "catalogue", Upkeep: upkeep.Options{Off: true}, Log: w.slog})
	if err != nil {
		panic(err)
	}
	w.catalogue = log
}

// at is a position of the catalogue: everything that it has now was known there.
func (w *world) at() journal.Position {
	at := w.catalogue.Acked()
	at.Slot--
	return at
}

// startOwner starts a process that takes a shard over.
func (w *world) startOwner(id uint32) {
	n := w.newNode(fmt.Sprint("s", id))
	n.shard = id
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	w.mu.Lock()
	w.all = append(w.all, n)
	w.mu.Unlock()
	n.gone.Go(func() { n.lead(ctx) })
}

// startDoor starts a process to which gateways connect.
func (w *world) startDoor(addr string) {
	n := w.newNode(addr)
	n.entry = n.door()
	recv, err := receiver.New(receiver.Options{
		Attach: n.entry.Attach, Resolve: w.resolve, Cluster: func() string { return "c" }, Node: addr, Logger: w.logger, Mutations: w.mutations.receiver,
	})
	if err != nil {
		panic(err)
	}
	n.recv, n.stop = recv, func() {}
	w.mu.Lock()
	w.nodes[addr] = n
	w.all = append(w.all, n)
	w.mu.Unlock()
}

// resolve is for receiver.Options of doors.
func (w *world) resolve(ctx context.Context, _, topic string) (weir.TopicID, int32, error) {
	if topic == forbidden {
		return weir.TopicID{}, 0, uplink.ErrNotAllowed
	}
	t, ok := w.catalogue.Topic(topic)
	if !ok {
		var err error
		t, err = w.catalogue.CreateTopic(ctx, topic, 2, nil)
		if err != nil && !errors.Is(err, commitlog.ErrTopicExists) {
			return weir.TopicID{}, 0, errors.Join(uplink.ErrBusy, err)
		}
		w.mu.Lock()
		w.names[t.ID] = topic
		w.mu.Unlock()
	}
	return t.ID, t.Partitions, nil
}

// led notes that a process owns its shard, and tells the doors.
func (w *world) led(n *node) {
	w.mu.Lock()
	if old := w.owners[n.shard]; old == nil || old.log.Epoch() < n.log.Epoch() {
		w.owners[n.shard] = n
	}
	doors := make([]*uplink.Door, 0, len(w.nodes))
	for _, d := range w.nodes {
		doors = append(doors, d.entry)
	}
	w.mu.Unlock()
	for _, d := range doors {
		d.Moved(n.shard)
	}
}

// lost notes that a process does not own its shard any more.
func (w *world) lost(n *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.owners[n.shard] == n {
		delete(w.owners, n.shard)
	}
}

// ownerOf returns the newest owner of a shard that has not ended.
func (w *world) ownerOf(id uint32) (*node, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.owners[id]; n != nil {
		return n, nil
	}
	return nil, &uplink.NotOwnerError{}
}

// open reports whether there is a topic. In a schedule of several shards it makes the log
// know it as the catalogue has it, behind what the caller has handed over and before what
// it hands over next.
func (w *world) open(log *commitlog.Log, id weir.TopicID) bool {
	own, has := log.TopicByID(id)
	if !w.several() {
		return has
	}
	at := w.at()
	t, ok := w.catalogue.TopicByID(id)
	if ok && (!has || own.Partitions < t.Partitions) {
		log.SubmitOpen(context.Background(), t, at, func(error) {})
	}
	return ok
}

// killOne kills an owner or a door.
func (w *world) killOne(x act) {
	w.mu.Lock()
	var alive []*node
	for _, id := range w.shardIDs() {
		if n := w.owners[id]; n != nil {
			alive = append(alive, n)
		}
	}
	for _, addr := range []string{"n0", "n1"} {
		if n := w.nodes[addr]; n != nil {
			alive = append(alive, n)
		}
	}
	w.mu.Unlock()
	if len(alive) == 0 {
		return
	}
	n := alive[int(x.a>>4)%len(alive)]
	w.say("%s is killed, what is in transit arrives: %v", n.addr, x.a%2 == 0)
	n.cutPaths(x.a%2 == 0)
	w.lost(n)
	n.kill()
	for range x.b % 3 {
		n.bucket.LandOne()
	}
	if x.b/4%4 == 0 {
		n.bucket.Forget()
	}
}

// startOne starts a door that is missing, or a process that takes a shard over, whether or
// not that has an owner.
func (w *world) startOne(x act) {
	w.mu.Lock()
	var missing []string
	for _, addr := range []string{"n0", "n1"} {
		if w.nodes[addr] == nil {
			missing = append(missing, addr)
		}
	}
	var orphans []uint32
	for _, id := range w.shardIDs() {
		if w.owners[id] == nil {
			orphans = append(orphans, id)
		}
	}
	w.mu.Unlock()
	switch {
	case len(missing) > 0 && x.a%2 == 0:
		w.say("door %s starts", missing[0])
		w.startDoor(missing[0])
	case len(orphans) > 0 && x.a%8 > 0:
		w.say("another process takes over shard %d", orphans[0])
		w.startOwner(orphans[0])
	default:
		id := w.shardIDs()[x.b%dataShards]
		w.say("another process takes over shard %d", id)
		w.startOwner(id)
	}
}

// complete starts what is missing.
func (w *world) complete() {
	w.mu.Lock()
	doors := len(w.nodes)
	var orphans []uint32
	for _, id := range w.shardIDs() {
		if w.owners[id] == nil && !slices.ContainsFunc(w.all, func(n *node) bool { return n.shard == id && n.opening.Load() }) {
			orphans = append(orphans, id)
		}
	}
	w.mu.Unlock()
	if doors == 0 {
		w.startDoor("n0")
	}
	for _, id := range orphans {
		w.startOwner(id)
	}
}

// cutPaths breaks what connects a process to others.
func (n *node) cutPaths(keep bool) {
	n.w.mu.Lock()
	var all []*path
	for key, p := range n.w.paths {
		if key[0] == n || key[1] == n {
			all = append(all, p)
			delete(n.w.paths, key)
		}
	}
	n.w.mu.Unlock()
	for _, p := range all {
		p.cut(keep)
	}
}

// cutPath breaks the path between a door and an owner.
func (w *world) cutPath(x act) {
	w.mu.Lock()
	var keys [][2]*node
	for _, door := range w.all {
		for _, owner := range w.all {
			if w.paths[[2]*node{door, owner}] != nil {
				keys = append(keys, [2]*node{door, owner})
			}
		}
	}
	if len(keys) == 0 {
		w.mu.Unlock()
		return
	}
	key := keys[int(x.b)%len(keys)]
	p := w.paths[key]
	delete(w.paths, key)
	w.mu.Unlock()
	w.say("the path from %s to %s breaks, what is in transit arrives: %v", key[0].addr, key[1].addr, x.a%2 == 0)
	p.cut(x.a%2 == 0)
}

// path returns the path from a door to an owner.
func (w *world) path(door, owner *node) *path {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := [2]*node{door, owner}
	if w.paths[key] == nil {
		w.paths[key] = newPath(w, owner)
	}
	return w.paths[key]
}

// attachTo is for uplink.Options.
func (n *node) attachTo(ctx context.Context, id uint32, gateway string, no uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
	owner, err := n.w.ownerOf(id)
	if err != nil {
		return nil, uplink.Offered{}, err
	}
	return n.w.path(n, owner).attach(ctx, gateway, no, buffers, end)
}

// numberOf is for uplink.Options.
func (n *node) numberOf(ctx context.Context, gateway string) (uplink.Number, error) {
	time.Sleep(n.w.transit())
	owner, err := n.w.ownerOf(n.w.route(weir.SliceOfGateway(gateway)))
	if err != nil {
		return uplink.Number{}, err
	}
	if _, err := owner.owned(); err != nil {
		return uplink.Number{}, err
	}
	return owner.owner.Number(), nil
}

// growTopic gives a topic of the catalogue another partition.
func (w *world) growTopic(name string) {
	t, ok := w.catalogue.Topic(name)
	if !ok || t.Partitions >= 5 {
		return
	}
	err := w.catalogue.GrowTopic(context.Background(), t.ID, t.Partitions+1)
	w.say("topic %s grows to %d: %v", name, t.Partitions+1, err)
}

var _ uplink.Attachment = (*farLink)(nil)
