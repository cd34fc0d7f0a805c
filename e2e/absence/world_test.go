package absence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/identity"
)

// world is a bucket at rest, and what was promised about it.
type world struct {
	end        ending
	image      image             // the content at the end
	older      map[string][]byte // the former content of what is different in image
	places     []place
	written    []written // acknowledged, in topics that are there, in their order
	batches    []int     // how many records of written each batch has
	maintained int       // length of written when the upkeep last began a pass
	remembered int       // length of written when older was last stored
	authority  []byte    // the CA's certificate
	cluster    string
}

// image is the content of a bucket, by key or by name of a file.
type image map[string][]byte

// gate is a bucket that a process can be cut off from: when it is shut, no request
// has an effect any more, as after SIGKILL.
type gate struct {
	storage.Bucket
	shut atomic.Bool
}

var errShut = errors.New("process was killed")

func (g *gate) Create(ctx context.Context, key string, body []byte) error {
	if g.shut.Load() {
		return errShut
	}
	return g.Bucket.Create(ctx, key, body)
}

func (g *gate) Delete(ctx context.Context, keys ...string) error {
	if g.shut.Load() {
		return errShut
	}
	return g.Bucket.Delete(ctx, keys...)
}

func (g *gate) Unwrap() storage.Bucket { return g.Bucket }

// home is the place where a world is built: a bucket that can be opened again and again, as
// processes do, and looked into.
type home interface {
	open() (storage.Bucket, error)
	look() (image, error)
}

// ending says how the last owner of a world ends.
type ending string

const (
	killed   ending = "killed"
	closed   ending = "closed"
	upgraded ending = "upgraded" // killed; it was begun at format level 1 and raised later
	adopted  ending = "adopted"  // killed; all runs stay in their slots, which serve as segments
)

func endings() []ending { return []ending{killed, closed, upgraded, adopted} }

// builder builds a world.
type builder struct {
	home home
	w    *world
	kept place // partition 0 of the topic that stays
}

// build builds a world of several epochs, with upkeep that has rewritten slots into
// segments, deleted slots, an older checkpoint and a topic, a claim whose owner
// never wrote, an open transaction, and a tail in slots.
func build(ctx context.Context, h home, end ending) (*world, error) {
	b := &builder{home: h, w: &world{end: end, older: map[string][]byte{}}}
	if end == upgraded {
		if err := b.begin(ctx); err != nil {
			return nil, err
		}
	}
	for i, life := range []func(context.Context, *node) error{b.found, b.goOn, nil, b.last} {
		how := killed
		if i == 1 || i == 3 && end == closed {
			how = closed
		}
		if err := b.live(ctx, fmt.Sprint("node-", i+1), how, life); err != nil {
			return nil, fmt.Errorf("life %d: %w", i+1, err)
		}
		if i == 1 && end == upgraded {
			if err := b.raise(ctx); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if b.w.image, err = h.look(); err != nil {
		return nil, err
	}
	for name, body := range b.w.older {
		now, there := b.w.image[name]
		if !there || string(now) == string(body) {
			delete(b.w.older, name)
		}
	}
	return b.w, nil
}

// adopt returns from which size on runs stay in their slots.
func (b *builder) adopt() int {
	if b.w.end == adopted {
		return 1
	}
	return 0
}

// begin creates a bucket of format level 1, as an earlier version did.
func (b *builder) begin(ctx context.Context) error {
	below, err := b.home.open()
	if err != nil {
		return err
	}
	err = below.Create(ctx, "cluster", []byte(`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":1,"shards":1}`))
	return errors.Join(err, storage.Close(below))
}

// raise does what weirctl upgrade does.
func (b *builder) raise(ctx context.Context) error {
	below, err := b.home.open()
	if err != nil {
		return err
	}
	_, err = identity.Upgrade(ctx, below, identity.Level, "a later version")
	return errors.Join(err, storage.Close(below))
}

// remember stores the content of the bucket for cells that restore it.
func (b *builder) remember() error {
	img, err := b.home.look()
	for name, body := range img {
		b.w.older[name] = body
	}
	b.w.remembered = len(b.w.written)
	return err
}

// live runs an owner from its start to its end. Without a life it claims the shard and dies
// before it writes anything.
func (b *builder) live(ctx context.Context, name string, how ending, life func(context.Context, *node) error) error {
	below, err := b.home.open()
	if err != nil {
		return err
	}
	g := &gate{Bucket: below}
	if life == nil {
		return errors.Join(claim(ctx, g, name), storage.Close(below))
	}
	n, err := boot(ctx, g, name, b.adopt())
	if err != nil {
		return err
	}
	b.w.authority, b.w.cluster = n.ca.Certificate().Raw, n.log.ClusterID()
	if err := life(ctx, n); err != nil {
		return errors.Join(err, n.shard.Close())
	}
	if how == killed {
		g.shut.Store(true)
	}
	if err := n.shard.Close(); err != nil && how == closed {
		return err
	}
	return storage.Close(below)
}

// claimant is a bucket that dies with the first claim made through it.
type claimant struct {
	*gate
	die context.CancelFunc
}

func (c claimant) Create(ctx context.Context, key string, body []byte) error {
	err := c.gate.Create(ctx, key, body)
	if strings.Contains(key, "/epoch/") {
		c.shut.Store(true)
		c.die()
	}
	return err
}

func claim(ctx context.Context, g *gate, name string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if n, err := boot(ctx, claimant{g, cancel}, name, 0); err == nil {
		return errors.Join(errors.New("it lived"), n.shard.Close())
	}
	return nil
}

func (b *builder) note(all []written, err error) error {
	if err != nil {
		return err
	}
	b.w.written = append(b.w.written, all...)
	b.w.batches = append(b.w.batches, len(all))
	return nil
}

// maintain makes a pass of the upkeep.
func (b *builder) maintain(ctx context.Context, n *node) error {
	b.w.maintained = len(b.w.written)
	return n.log.Maintain(ctx)
}

// fill appends a few batches to each partition.
func (b *builder) fill(ctx context.Context, n *node, what string) error {
	for _, p := range b.w.places {
		for i := range 3 {
			name := fmt.Sprintf("%s-%d-%d", what, p.partition, i)
			if err := b.note(n.append(ctx, p, name+"a", name+"b")); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) found(ctx context.Context, n *node) error {
	kept, err := n.log.CreateTopic(ctx, "kept", 2, nil)
	if err != nil {
		return err
	}
	short, err := n.log.CreateTopic(ctx, "short", 1, nil)
	if err != nil {
		return err
	}
	b.w.places = []place{{kept.ID, 0}, {kept.ID, 1}}
	b.kept = b.w.places[0]
	if err := n.admit(ctx, "gateway-1"); err != nil {
		return err
	}
	if _, err := n.append(ctx, place{topic: short.ID}, "short"); err != nil {
		return err
	}
	if err := b.fill(ctx, n, "1a"); err != nil {
		return err
	}
	if err := b.maintain(ctx, n); err != nil {
		return err
	}
	if err := n.log.DeleteTopic(ctx, short.ID); err != nil {
		return err
	}
	for _, what := range []string{"1b", "1c"} {
		if err := errors.Join(b.fill(ctx, n, what), b.maintain(ctx, n)); err != nil {
			return err
		}
	}
	return errors.Join(b.remember(), b.fill(ctx, n, "1d"))
}

func (b *builder) goOn(ctx context.Context, n *node) error {
	if err := errors.Join(b.remember(), b.fill(ctx, n, "2a"), b.maintain(ctx, n)); err != nil {
		return err
	}
	return errors.Join(b.remember(), b.fill(ctx, n, "2b"))
}

// last runs the last owner: upkeep, then a tail that is longer than the
// first pack of a folder bucket.
func (b *builder) last(ctx context.Context, n *node) error {
	for _, what := range []string{"3a", "3b"} {
		if err := errors.Join(b.remember(), b.fill(ctx, n, what), b.maintain(ctx, n)); err != nil {
			return err
		}
	}
	if err := b.fill(ctx, n, "3c"); err != nil {
		return err
	}
	large := strings.Repeat("x", 60<<10)
	for i := range 6 {
		if err := b.note(n.append(ctx, b.w.places[1], fmt.Sprint("large", i, large))); err != nil {
			return err
		}
	}
	if err := b.remember(); err != nil {
		return err
	}
	if err := b.note(n.begin(ctx, b.kept, 4711, "open")); err != nil {
		return err
	}
	return b.fill(ctx, n, "3d")
}
