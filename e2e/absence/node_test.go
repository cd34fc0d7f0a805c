package absence

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
)

// node is what weir-cloud builds from a bucket before it opens its doors.
type node struct {
	ca    *join.CA
	fleet *fleet.Fleet
	log   *commitlog.Log
	shard *shard.Shard // the shard that log belongs to
}

var silent = slog.New(slog.DiscardHandler)

// boot starts a node in the order of cloud.Open and Node.lead. It adopts runs of so many
// bytes; 0: of as many as in production.
func boot(ctx context.Context, b storage.Bucket, name string, adopt int) (*node, error) {
	ca, err := fleet.Authority(ctx, b, nil, time.Now())
	if err != nil {
		return nil, err
	}
	if _, _, err := identity.ReadCluster(ctx, b); err != nil {
		return nil, err
	}
	s := shard.New(shard.Options{Log: silent, Fleet: fleet.Options{CA: ca}})
	err = s.Open(ctx, commitlog.Options{
		Bucket: b, Node: name, Log: silent,
		Upkeep: upkeep.Options{Segment: 32 << 10, Age: time.Hour, Bytes: 1 << 30, Grace: time.Hour, Adopt: adopt},
	})
	if err != nil {
		return nil, err
	}
	return &node{ca: ca, fleet: s.Fleet, log: s.Log.Log, shard: s}, nil
}

// written is a record that was acknowledged.
type written struct {
	topic     weir.TopicID
	partition int32
	offset    int64
	value     string
}

// place is a partition of a topic.
type place struct {
	topic     weir.TopicID
	partition int32
}

func (w written) place() place { return place{w.topic, w.partition} }

// append appends values as one batch and waits for the acknowledgement.
func (n *node) append(ctx context.Context, p place, values ...string) ([]written, error) {
	b := record.NewBuilder(record.None)
	return n.send(ctx, p, b, false, values)
}

// begin appends values in a transaction that stays open.
func (n *node) begin(ctx context.Context, p place, producer int64, values ...string) ([]written, error) {
	b := record.NewBuilder(record.None)
	b.SetProducer(producer, 0, 0)
	return n.send(ctx, p, b, true, values)
}

func (n *node) send(ctx context.Context, p place, b *record.Builder, transactional bool, values []string) ([]written, error) {
	for _, v := range values {
		if err := b.Append(&record.Record{Timestamp: 1000, Value: []byte(v)}); err != nil {
			return nil, err
		}
	}
	batch, err := b.Build()
	if err != nil {
		return nil, err
	}
	if transactional {
		batch[22] |= 0x10
		binary.BigEndian.PutUint32(batch[17:], crc.Sum(batch[21:]))
	}
	type answer struct {
		base int64
		err  error
	}
	answers := make(chan answer, 1)
	n.log.Append(commitlog.Append{Topic: p.topic, Partition: p.partition, Batch: batch}, func(base int64, err error) {
		answers <- answer{base, err}
	})
	select {
	case a := <-answers:
		if a.err != nil {
			return nil, a.err
		}
		all := make([]written, len(values))
		for i, v := range values {
			all[i] = written{topic: p.topic, partition: p.partition, offset: a.base + int64(i), value: v}
		}
		return all, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// admit makes a join token and lets a gateway join with it.
func (n *node) admit(ctx context.Context, gateway string) error {
	token, err := n.fleet.NewToken(ctx, 1, time.Hour, nil)
	if err != nil {
		return err
	}
	t, err := join.ParseToken(token)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := join.NewCSR(key, gateway)
	if err != nil {
		return err
	}
	_, err = n.fleet.Join(ctx, t.Secret, gateway, csr)
	return err
}

// reading is what readers get from a partition.
type reading struct {
	values map[int64]string // by offset
	end    int64            // the offset that the next record gets
	holes  []hole
}

// hole is a range of offsets that readers are told about.
type hole struct {
	from, to int64
	err      error
}

// read reads a partition from its beginning to its end, like a consumer that
// continues after records that cannot be read, at the next offset that can.
func (n *node) read(ctx context.Context, p place) (reading, error) {
	r := reading{values: map[int64]string{}}
	start, end, err := n.log.Bounds(p.topic, p.partition)
	if err != nil {
		return r, err
	}
	r.end = end
	for offset := start; offset < end; {
		f, err := n.log.Fetch(ctx, p.topic, p.partition, offset, 1)
		switch {
		case ctx.Err() != nil:
			return r, ctx.Err()
		case err != nil && !errors.Is(err, state.ErrCorrupt) && !errors.Is(err, storage.ErrDamaged):
			return r, fmt.Errorf("fetch offset %d: %w", offset, err)
		case err != nil:
			r.miss(offset, err)
			offset++
			continue
		case len(f.Batches) == 0:
			return r, fmt.Errorf("offset %d of %d..%d: neither records nor an error", offset, start, end)
		}
		next := offset
		for _, raw := range f.Batches {
			b := record.Batch(raw)
			next = b.NextOffset()
			if b.Control() {
				continue
			}
			err := b.Each(1<<24, func(rec *record.Record) error {
				r.values[rec.Offset] = string(rec.Value)
				return nil
			})
			if err != nil {
				return r, fmt.Errorf("fetch offset %d: %w", offset, err)
			}
		}
		if next <= offset {
			return r, fmt.Errorf("fetch offset %d: batches end at %d", offset, next)
		}
		offset = next
	}
	return r, nil
}

func (r *reading) miss(offset int64, err error) {
	if n := len(r.holes); n > 0 && r.holes[n-1].to == offset {
		r.holes[n-1].to++
		return
	}
	r.holes = append(r.holes, hole{offset, offset + 1, err})
}

// told returns the error that readers get at an offset, or nil.
func (r *reading) told(offset int64) error {
	for _, h := range r.holes {
		if h.from <= offset && offset < h.to {
			return h.err
		}
	}
	return nil
}
