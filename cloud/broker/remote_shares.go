package broker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// What a share group has done with a partition is in the shard of that partition. The node
// that coordinates the group, which knows whether it has members, asks the nodes that serve
// the shards. All of these calls may be repeated: a second time they find nothing to do.

// GroupListings lists the groups that this node coordinates, of all types, including those
// that have only offsets. A share group that has nothing but offsets in partitions of a node
// that does not answer within endsTime is left out.
func (r *Records) GroupListings(ctx context.Context) ([]group.Listing, error) {
	all, err := r.b.listings()
	if err != nil {
		return nil, err
	}
	names, err := r.b.shareNames()
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(all))
	for _, g := range all {
		known[g.Group] = true
	}
	for _, name := range append(names, r.shareNamesElsewhere(ctx)...) {
		if _, err := r.b.Groups(name); err == nil && !known[name] {
			known[name] = true
			all = append(all, emptyShare(name))
		}
	}
	return all, nil
}

// shareNamesElsewhere asks each other node that serves data for the groups that share its
// partitions.
func (r *Records) shareNamesElsewhere(ctx context.Context) (all []string) {
	if !r.b.Several() || r.o.Ask == nil {
		return nil
	}
	defer stopwatch.Waiting(ctx)()
	ctx, cancel := context.WithTimeout(stopwatch.Without(ctx), endsTime)
	defer cancel()
	owners, _ := r.b.Owners()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, l := range owners {
		if l.Name == r.b.o.Self.Name {
			continue
		}
		wg.Go(func() {
			d, err := r.ask(ctx, l.Node, askShareNames, []byte{remoteVersion})
			if err != nil {
				return
			}
			names, err := d.shareNames()
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, names...)
		})
	}
	wg.Wait()
	return all
}

// DescribeShare describes a share group that this node coordinates. One without members that
// has offsets is Empty.
func (r *Records) DescribeShare(ctx context.Context, name string) (group.ShareDescription, error) {
	groups, err := r.b.Groups(name)
	if err != nil {
		return group.ShareDescription{}, err
	}
	d, err := groups.DescribeShare(name)
	if !errors.Is(err, group.ErrUnknownGroup) {
		return d, err
	}
	if _, other := groups.Describe(name); other == nil {
		return d, err // of another type
	}
	offsets, failed := r.ShareOffsets(ctx, name)
	if failed != nil {
		return d, failed
	}
	if len(offsets) == 0 {
		return d, err
	}
	return group.ShareDescription{Listing: emptyShare(name)}, nil
}

// DeleteGroup removes a group that this node coordinates and that has no members, with its
// offsets; durable on return. After an error a part may be removed; a further call removes
// the rest.
func (r *Records) DeleteGroup(ctx context.Context, name string) error {
	groups, err := r.b.Groups(name)
	if err != nil {
		return err
	}
	err = groups.Delete(ctx, name)
	if err != nil && !errors.Is(err, group.ErrUnknownGroup) {
		return err
	}
	found, failed := r.DeleteShares(ctx, name, nil)
	if failed != nil {
		return failed
	}
	if found || err == nil {
		return nil
	}
	if lost := r.b.ConfirmSlice(ctx, weir.SliceOfGroup(name)); lost != nil {
		return lost
	}
	return err
}

// ShareOffsets returns how far a share group is in all partitions that it shares, by topic id
// and partition.
func (r *Records) ShareOffsets(ctx context.Context, name string) ([]share.Offsets, error) {
	var mu sync.Mutex
	found := make(map[share.Place]share.Offsets) // what moves may be in two shards
	err := r.eachShard(ctx, func(ctx context.Context, id uint32) error {
		q := shareQuestion{shard: id, group: name}
		var some []share.Offsets
		err := r.served(ctx, func() uint32 { return id }, func() (err error) {
			some, err = r.b.shareOffsets(q)
			return err
		}, func(ctx context.Context, node Node) error {
			d, err := r.ask(ctx, node, askShareOffsets, q.append(nil))
			if err == nil {
				some, err = d.shareOffsets(name)
			}
			return err
		})
		mu.Lock()
		defer mu.Unlock()
		for _, o := range some {
			found[o.Place] = o
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(found), func(a, b share.Offsets) int {
		return cmp.Or(bytes.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	}), nil
}

// DeleteShares removes what a share group knows of a topic, or with nil of all; durable on
// return. It reports whether there was anything, or may have been: the answer of a node that
// has removed it may be lost. The caller makes sure that the group has no members.
func (r *Records) DeleteShares(ctx context.Context, name string, topic *weir.TopicID) (found bool, err error) {
	var mu sync.Mutex
	finds := func() {
		mu.Lock()
		defer mu.Unlock()
		found = true
	}
	err = r.eachShard(ctx, func(ctx context.Context, id uint32) error {
		q := shareQuestion{shard: id, group: name, topic: topic}
		return r.served(ctx, func() uint32 { return id }, func() error {
			some, err := r.b.deleteShares(ctx, q)
			if some {
				finds()
			}
			return err
		}, func(ctx context.Context, node Node) error {
			d, err := r.ask(ctx, node, askShareDelete, q.append(nil))
			if err != nil {
				finds()
				return err
			}
			some, _, err := d.found()
			if some > 0 {
				finds()
			}
			return err
		})
	})
	return found, err
}

// BeginShare makes a share group begin at an offset of a partition, whatever it did there;
// durable on return. The caller makes sure that the group has no members.
func (r *Records) BeginShare(ctx context.Context, at share.Place, offset int64) error {
	q := shareBegin{at, offset}
	if r.b.Several() {
		defer stopwatch.Waiting(ctx)()
	}
	return r.at(ctx, weir.SliceOf(at.Topic, at.Partition), func() error { return r.b.BeginShare(ctx, at, offset) },
		func(ctx context.Context, node Node) error {
			d, err := r.ask(ctx, node, askShareBegin, q.append(nil))
			if err == nil {
				_, _, err = d.found()
			}
			return err
		})
}

// eachShard calls do for each shard that has data, at once. If slices move meanwhile it does
// so again: they may have come to a shard after its turn.
func (r *Records) eachShard(ctx context.Context, do func(ctx context.Context, id uint32) error) error {
	if !r.b.Several() {
		return do(ctx, catalogueShard) // the only one
	}
	defer stopwatch.Waiting(ctx)()
	ctx = stopwatch.Without(ctx)
	for {
		routes, count := r.b.Map()
		all := r.b.Routed()
		errs := make([]error, len(all))
		var wg sync.WaitGroup
		for i, id := range all {
			wg.Go(func() { errs[i] = do(ctx, id) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if now, n := r.b.Map(); now == routes && n == count {
			return nil
		}
	}
}

// shareOffsets answers a question about a shard that this node serves.
func (b *Broker) shareOffsets(q shareQuestion) ([]share.Offsets, error) {
	s, err := b.table.Load().shards[q.shard].serving()
	if err != nil {
		return nil, err
	}
	all, err := s.Shares.Offsets(q.group)
	return all, translateShare(err)
}

// deleteShares is shareOffsets for what is to be removed.
func (b *Broker) deleteShares(ctx context.Context, q shareQuestion) (found bool, err error) {
	s, err := b.table.Load().shards[q.shard].serving()
	if err != nil {
		return false, err
	}
	found, err = s.Shares.Delete(ctx, q.group, q.topic)
	return found, translateShare(err)
}

// answerShares answers what another node asks about share groups.
func (r *Records) answerShares(ctx context.Context, what string, d *decoder) ([]byte, error) {
	if what == askShareBegin {
		q, err := d.shareBegin()
		if err != nil {
			return nil, err
		}
		return appendFound(nil, 0, 0, r.b.BeginShare(ctx, q.Place, q.offset)), nil
	}
	if what == askShareNames {
		if err := d.end(); err != nil {
			return nil, err
		}
		names, err := r.b.shareNames()
		return appendShareNames(nil, names, err), nil
	}
	q, err := d.shareQuestion()
	if err != nil {
		return nil, err
	}
	if what == askShareOffsets {
		all, err := r.b.shareOffsets(q)
		return appendShareOffsets(nil, all, err), nil
	}
	found, err := r.b.deleteShares(ctx, q)
	n := int64(0)
	if found {
		n = 1
	}
	return appendFound(nil, n, 0, err), nil
}

// shareQuestion is about a share group in a shard.
type shareQuestion struct {
	shard uint32
	group string
	topic *weir.TopicID // nil: all
}

func (q shareQuestion) append(p []byte) []byte {
	p = binary.AppendUvarint(append(p, remoteVersion), uint64(q.shard))
	p = coding.AppendString(p, q.group)
	if q.topic == nil {
		return append(p, 0)
	}
	return append(append(p, 1), q.topic[:]...)
}

func (d *decoder) shareQuestion() (q shareQuestion, err error) {
	q.shard, q.group = uint32(d.Int31()), d.String()
	switch d.Byte() {
	case 0:
	case 1:
		id := weir.TopicID(d.ID())
		q.topic = &id
	default:
		d.Fail()
	}
	return q, d.end()
}

// shareBegin makes a share group begin anew.
type shareBegin struct {
	share.Place
	offset int64
}

func (q shareBegin) append(p []byte) []byte {
	p = coding.AppendString(append(p, remoteVersion), q.Group)
	return binary.AppendVarint(appendPlace(p, Place{Topic: q.Topic, Partition: q.Partition}), q.offset)
}

func (d *decoder) shareBegin() (q shareBegin, err error) {
	q.Group = d.String()
	at := d.place()
	q.Topic, q.Partition, q.offset = at.Topic, at.Partition, d.Varint()
	return q, d.end()
}

// appendShareOffsets encodes the answer.
func appendShareOffsets(p []byte, all []share.Offsets, err error) []byte {
	p = appendError(append(p, remoteVersion), err)
	p = binary.AppendUvarint(p, uint64(len(all)))
	for _, o := range all {
		p = appendPlace(p, Place{Topic: o.Topic, Partition: o.Partition})
		p = binary.AppendVarint(binary.AppendVarint(p, o.Start), o.Lag)
	}
	return p
}

// shareOffsets is the inverse of appendShareOffsets, for a group.
func (d *decoder) shareOffsets(name string) ([]share.Offsets, error) {
	failed := d.outcome()
	var all []share.Offsets
	for range d.Count(minPlace + 2) {
		at := d.place()
		all = append(all, share.Offsets{Place: share.Place{Group: name, Topic: at.Topic, Partition: at.Partition}, Start: d.Varint(), Lag: d.Varint()})
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return all, failed
}

// appendShareNames encodes the answer.
func appendShareNames(p []byte, names []string, err error) []byte {
	p = appendError(append(p, remoteVersion), err)
	p = binary.AppendUvarint(p, uint64(len(names)))
	for _, name := range names {
		p = coding.AppendString(p, name)
	}
	return p
}

// shareNames is the inverse of appendShareNames.
func (d *decoder) shareNames() ([]string, error) {
	failed := d.outcome()
	var all []string
	for range d.Count(1) {
		all = append(all, d.String())
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return all, failed
}
