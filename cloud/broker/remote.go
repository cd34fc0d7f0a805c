package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/weir"
)

// ErrNoLeader means that the node that leads a partition, or has the catalogue, is not known
// or does not answer.
// It is for calls of Records in a cluster of several shards, where the loss of a partition
// says nothing about the shards of this node.
var ErrNoLeader = errors.New("the node that leads the partition does not answer")

// The questions that nodes ask each other about records. The bodies are those of
// remote_codec.go.
const (
	askRead     = "read"
	askRanges   = "ranges"
	askSearch   = "search"
	askAppend   = "append"
	askProducer = "producer"

	askShareOffsets = "share-offsets"
	askShareDelete  = "share-delete"
	askShareBegin   = "share-begin"
	askShareNames   = "share-names"
)

// RecordsOptions configure Records. Without functions only this node's partitions can be
// reached, as in a cluster of one shard.
type RecordsOptions struct {
	// Ask calls Records.Answer at another node.
	Ask func(ctx context.Context, node Node, what string, question []byte) (answer []byte, err error)
	// Follow calls Records.Tell at another node. It returns when that ends, or the connection.
	Follow func(ctx context.Context, node Node, shard uint32, tell func(message []byte) error) error

	Mutations Mutations // of tests
}

// Records are the records of all partitions, wherever they are led: a call goes to the log
// of this node, or to the node that leads the partition. Calls do not return ErrNotOwner in
// a cluster of several shards, but ErrNoLeader. Records may be used by many goroutines.
type Records struct {
	b      *Broker
	o      RecordsOptions
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	appends appends
	follows follows
}

// NewRecords returns the records of a cluster.
func NewRecords(b *Broker, o RecordsOptions) *Records {
	r := &Records{b: b, o: o,
		appends: appends{lines: make(map[Place]*line), busy: make(map[Place]*line), lanes: make(map[uint32]bool), away: make(map[uint32]int), producer: -1},
		follows: follows{growths: make(map[*Growth]struct{}), watches: make(map[Place]chan struct{}), running: make(map[uint32]bool)}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Close ends what goes on in the background. Appends that have no answer yet get
// ErrNoLeader: they may be durable.
func (r *Records) Close() error {
	r.cancel()
	r.tasks.Wait()
	r.refuseAll()
	return nil
}

const (
	// patience is how long a call looks for the node that leads a partition: a takeover takes
	// about so long.
	patience = 5 * time.Second
	// lookPause is after what time a call looks again, if it does not hear of a change.
	lookPause = 200 * time.Millisecond
)

// at performs a call in the shard that has a slice: here, or at the node that serves it.
// Until patience is over it tries again if that node does not answer.
func (r *Records) at(ctx context.Context, slice weir.Slice, here func() error, there func(ctx context.Context, node Node) error) error {
	return r.served(ctx, func() uint32 { return r.b.RouteOf(slice) }, here, there)
}

// served is at for a shard.
func (r *Records) served(ctx context.Context, shard func() uint32, here func() error, there func(ctx context.Context, node Node) error) error {
	if !r.b.Several() {
		return here()
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		turned := r.b.turned()
		err := here()
		if owner, elsewhere := r.elsewhere(err); elsewhere {
			asking, stop := r.during(ctx, shard(), owner)
			err = there(asking, owner)
			stop()
		}
		if !errors.Is(err, ErrNotOwner) && !errors.Is(err, ErrNoLeader) {
			return err
		}
		if !look(ctx, turned) {
			return noLeader(err)
		}
	}
}

// elsewhere returns the node that an error of this node's own says to ask.
func (r *Records) elsewhere(err error) (Node, bool) {
	not, ok := errors.AsType[*NotOwnerError](err)
	if !ok || not.Owner.Name == "" || not.Owner.Name == r.b.o.Self.Name || r.o.Ask == nil {
		return Node{}, false
	}
	return not.Owner, true
}

// noLeader returns an ErrNoLeader that says why, and is no ErrNotOwner.
func noLeader(err error) error {
	if errors.Is(err, ErrNoLeader) {
		return err
	}
	return fmt.Errorf("%w: %v", ErrNoLeader, err)
}

// look waits until shards may be served by other nodes, or for lookPause. It returns false
// when ctx ends.
func look(ctx context.Context, turned <-chan struct{}) bool {
	timer := time.NewTimer(lookPause)
	defer timer.Stop()
	select {
	case <-turned:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// during returns a context that ends when another node than owner serves the shard: nobody
// waits for a node that has lost it.
func (r *Records) during(ctx context.Context, id uint32, owner Node) (asking context.Context, stop context.CancelFunc) {
	asking, stop = context.WithCancel(ctx)
	go func() {
		for asking.Err() == nil {
			turned := r.b.turned()
			if now, known := r.b.OwnerOf(id); known && (now.Name != owner.Name || now.Boot != owner.Boot) {
				stop()
				return
			}
			select {
			case <-turned:
			case <-asking.Done():
			}
		}
	}()
	return asking, stop
}

// ask asks another node. An error means that no answer came.
func (r *Records) ask(ctx context.Context, node Node, what string, question []byte) (*decoder, error) {
	answer, err := r.o.Ask(ctx, node, what, question)
	if err != nil {
		return nil, noLeader(err)
	}
	return newDecoder(answer)
}

// Topics is Broker.Topics.
func (r *Records) Topics() ([]Topic, error) {
	all, err := r.b.Topics()
	return all, r.lost(err)
}

// Topic is Broker.Topic.
func (r *Records) Topic(name string) (Topic, error) {
	t, err := r.b.Topic(name)
	return t, r.lost(err)
}

// TopicByID is Broker.TopicByID.
func (r *Records) TopicByID(id weir.TopicID) (Topic, error) {
	t, err := r.b.TopicByID(id)
	return t, r.lost(err)
}

// CreateTopic is Broker.CreateTopic.
func (r *Records) CreateTopic(ctx context.Context, name string, partitions int32, configs map[string]string) (Topic, error) {
	t, err := r.b.CreateTopic(ctx, name, partitions, configs)
	return t, r.lost(err)
}

// lost returns the error of a call about the catalogue.
func (r *Records) lost(err error) error {
	if r.b.Several() && errors.Is(err, ErrNotOwner) {
		return noLeader(err)
	}
	return err
}

// Fetch is Broker.Fetch.
func (r *Records) Fetch(ctx context.Context, id weir.TopicID, partition int32, offset int64, maxBytes int) (Fetched, error) {
	return r.read(ctx, readQuestion{Place{Topic: id, Partition: partition}, offset, maxBytes, false}, r.b.Fetch)
}

// FetchCommitted is Broker.FetchCommitted.
func (r *Records) FetchCommitted(ctx context.Context, id weir.TopicID, partition int32, offset int64, maxBytes int) (Fetched, error) {
	return r.read(ctx, readQuestion{Place{Topic: id, Partition: partition}, offset, maxBytes, true}, r.b.FetchCommitted)
}

func (r *Records) read(ctx context.Context, q readQuestion, here func(context.Context, weir.TopicID, int32, int64, int) (Fetched, error)) (f Fetched, err error) {
	err = r.at(ctx, weir.SliceOf(q.Topic, q.Partition), func() error {
		f, err = here(ctx, q.Topic, q.Partition, q.offset, q.most)
		return err
	}, func(ctx context.Context, node Node) error {
		d, err := r.ask(ctx, node, askRead, q.append(nil))
		if err != nil {
			return err
		}
		f, err = d.fetched()
		return err
	})
	return f, err
}

// Range is where the records of a partition lie.
type Range struct {
	Start, End int64 // as Bounds returns them
	Stable     int64 // the last stable offset
	Bytes      int64 // at rest
	Err        error // why the others are not known
}

// Ranges returns where the records of partitions lie, in the order of the partitions.
func (r *Records) Ranges(ctx context.Context, places []Place) []Range {
	all := make([]Range, len(places))
	if !r.b.Several() {
		for i, at := range places {
			all[i] = r.b.rangeOf(at)
		}
		return all
	}
	shards := make(map[uint32][]int)
	for i, at := range places {
		id := r.b.RouteOf(weir.SliceOf(at.Topic, at.Partition))
		shards[id] = append(shards[id], i)
	}
	var wg sync.WaitGroup
	for _, indexes := range shards {
		wg.Go(func() {
			for len(indexes) > 0 {
				some := indexes[:min(len(indexes), maxPlaces)]
				indexes = indexes[len(some):]
				r.rangesAt(ctx, places, all, some)
			}
		})
	}
	wg.Wait()
	return all
}

// rangesAt sets the ranges of partitions of one shard.
func (r *Records) rangesAt(ctx context.Context, places []Place, all []Range, some []int) {
	asked := make([]Place, len(some))
	for i, of := range some {
		asked[i] = places[of]
	}
	first := weir.SliceOf(asked[0].Topic, asked[0].Partition)
	err := r.at(ctx, first, func() error {
		if _, err := r.b.at(first); err != nil {
			return err
		}
		for i, of := range some {
			all[of] = r.b.rangeOf(asked[i])
		}
		return nil
	}, func(ctx context.Context, node Node) error {
		d, err := r.ask(ctx, node, askRanges, appendPlaces(nil, asked))
		if err != nil {
			return err
		}
		ranges, err := d.ranges(len(asked))
		for i, one := range ranges {
			all[some[i]] = one
		}
		if err == nil && errors.Is(ranges[0].Err, ErrNotOwner) {
			err = ranges[0].Err // it has lost the shard
		}
		return err
	})
	for _, of := range some {
		if err != nil {
			all[of] = Range{Err: err}
		} else if errors.Is(all[of].Err, ErrNotOwner) {
			all[of].Err = noLeader(all[of].Err)
		}
	}
}

// rangeOf returns where the records of a partition lie that this node serves.
func (b *Broker) rangeOf(at Place) (x Range) {
	if x.Start, x.End, x.Err = b.Bounds(at.Topic, at.Partition); x.Err != nil {
		return Range{Err: x.Err}
	}
	if x.Stable, x.Err = b.Stable(at.Topic, at.Partition); x.Err != nil {
		return Range{Err: x.Err}
	}
	if x.Bytes, x.Err = b.Size(at.Topic, at.Partition); x.Err != nil {
		return Range{Err: x.Err}
	}
	return x
}

// Range is Ranges for one partition.
func (r *Records) Range(ctx context.Context, id weir.TopicID, partition int32) (Range, error) {
	x := r.Ranges(ctx, []Place{{Topic: id, Partition: partition}})[0]
	return x, x.Err
}

// OffsetByTime is Broker.OffsetByTime.
func (r *Records) OffsetByTime(ctx context.Context, id weir.TopicID, partition int32, ts int64) (offset, timestamp int64, err error) {
	q := searchQuestion{Place{Topic: id, Partition: partition}, ts}
	err = r.at(ctx, weir.SliceOf(id, partition), func() error {
		offset, timestamp, err = r.b.OffsetByTime(ctx, id, partition, ts)
		return err
	}, func(ctx context.Context, node Node) error {
		d, err := r.ask(ctx, node, askSearch, q.append(nil))
		if err != nil {
			return err
		}
		offset, timestamp, err = d.found()
		return err
	})
	return offset, timestamp, err
}
