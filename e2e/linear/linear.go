// Package linear checks that a partition is linearizable: that appends to it and
// questions for its end, by many clients and whatever becomes of the nodes, have an
// order in which they could have happened one after the other, each between its call
// and its answer.
package linear

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/weirmq/weir/storage/record"
)

// call is what a client asks of the partition: to append records, or, with none, for the
// offset of the next one. The records of a call bear its id.
type call struct {
	records int64
	id      string
}

// answer is what it heard. unknown: nothing, so the records may have been appended at any
// later time, or never. What is in the partition in the end tells.
type answer struct {
	offset  int64
	unknown bool
}

// model is the partition as a client that knows nothing of nodes, slots and buckets
// imagines it: a number that grows.
var model = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		end, in, out := state.(int64), input.(call), output.(answer)
		return out.offset == end, end + in.records
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// History is the calls of all clients and their answers.
type History struct {
	topic string // of one partition
	began time.Time

	mu         sync.Mutex
	operations []porcupine.Operation // guarded by mu
}

// New returns an empty history of the topic's partition 0.
func New(topic string) *History { return &History{topic: topic, began: time.Now()} }

// Client makes one call after the other until ctx ends. servers are Kafka doors; ids of
// clients are less than 100. Its error is that of a client that cannot be made.
func (h *History) Client(ctx context.Context, id int, servers ...string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.RequestRetries(0), kgo.MetadataMinAge(50*time.Millisecond), kgo.DialTimeout(2*time.Second),
		kgo.MaxVersions(kversion.V2_8_0())) // in which Produce names topics
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	rng := rand.New(rand.NewPCG(uint64(id), 2))
	for number, n := id, 0; ctx.Err() == nil; n++ {
		in := call{id: fmt.Sprint(id, ".", n)}
		if rng.IntN(3) > 0 {
			in.records = 1 + rng.Int64N(3)
		}
		from := time.Since(h.began)
		out, err := h.ask(client, admin, in)
		if err != nil {
			return err
		}
		to := time.Since(h.began)
		if out.unknown {
			to = math.MaxInt64
		}
		if !out.unknown || in.records > 0 { // a question without an answer says nothing
			h.mu.Lock()
			h.operations = append(h.operations, porcupine.Operation{ClientId: number, Input: in, Output: out, Call: int64(from), Return: int64(to)})
			h.mu.Unlock()
		}
		if out.unknown { // the last call of this number in the history
			number += 100
			again := time.NewTimer(20 * time.Millisecond) // not to fill the history with what a dead node does not answer
			<-again.C
		}
	}
	return nil
}

// ask makes a call, once.
func (h *History) ask(client *kgo.Client, admin *kadm.Client, in call) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if in.records == 0 {
		ends, err := admin.ListEndOffsets(ctx, h.topic)
		end, ok := ends.Lookup(h.topic, 0)
		if err != nil || !ok || end.Err != nil {
			return answer{unknown: true}, nil
		}
		return answer{offset: end.Offset}, nil
	}
	b := record.NewBuilder(record.None)
	for range in.records {
		if err := b.Append(&record.Record{Value: []byte(in.id)}); err != nil {
			return answer{}, err
		}
	}
	batch, err := b.Build()
	if err != nil {
		return answer{}, err
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 3_000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: h.topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: batch}}}}
	resp, err := req.RequestWith(ctx, client)
	if err != nil || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		return answer{unknown: true}, nil
	}
	return answer{offset: resp.Topics[0].Partitions[0].BaseOffset}, nil
}

// Verdict is the result of a check.
type Verdict struct {
	Calls             int // with an answer, or found to have happened
	Unknown, Happened int // calls without an answer; those of them that had happened
	Linearizable      bool
	info              porcupine.LinearizationInfo
}

// Check reads the partition to its end and judges. All clients must have ended. Calls
// without an answer get the one that the partition shows, or are left out: they had no
// effect.
func (h *History) Check(ctx context.Context, servers ...string) (Verdict, error) {
	log, err := h.readAll(ctx, servers)
	if err != nil {
		return Verdict{}, err
	}
	var v Verdict
	kept := h.operations[:0]
	for _, o := range h.operations {
		if o.Output.(answer).unknown {
			v.Unknown++
			at, ok := log[o.Input.(call).id]
			if !ok {
				continue
			}
			v.Happened++
			o.Output = answer{offset: at}
		}
		kept = append(kept, o)
	}
	h.operations, v.Calls = kept, len(kept)
	result, info := porcupine.CheckOperationsVerbose(model, kept, time.Minute)
	v.Linearizable, v.info = result == porcupine.Ok, info
	return v, nil
}

// Draw writes a page that shows the history.
func (v Verdict) Draw(path string) error { return porcupine.VisualizePath(model, v.info, path) }

// readAll returns where the first record of each call lies.
func (h *History) readAll(ctx context.Context, servers []string) (map[string]int64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.MetadataMinAge(50*time.Millisecond), kgo.ConsumeTopics(h.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, h.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the end of %s: %w", h.topic, err)
	}
	end, _ := ends.Lookup(h.topic, 0)
	at := make(map[string]int64)
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read %s up to %d of %d: %w", h.topic, next, end.Offset, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if _, ok := at[string(r.Value)]; !ok {
				at[string(r.Value)] = r.Offset
			}
		})
	}
	return at, nil
}
