package e2e

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/weirmq/weir/storage/record"
)

// call is what a client asks of one partition: to append records, or, with
// none, for the offset of the next one. The records of a call bear its id.
type call struct {
	records int64
	id      string
}

// answer is what it heard. unknown: nothing, so the records may have been
// appended at any later time, or never. What is in the log in the end tells.
type answer struct {
	offset  int64
	unknown bool
}

// partition is a partition as a client that knows nothing of nodes, slots and
// buckets imagines it: a number that grows.
var partitionModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		end, in, out := state.(int64), input.(call), output.(answer)
		return out.offset == end, end + in.records
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// TestLinearizable: appends and questions for the end offset of a partition, from
// many clients and over kills of the node, have an order in which they could have
// happened one after the other, each between its call and its answer.
func TestLinearizable(t *testing.T) {
	rounds, kills := 1, 4
	if os.Getenv("WEIR_SOAK") != "" {
		rounds, kills = 20, 8
	}
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) { linearizable(t, kills) })
	}
}

func linearizable(t *testing.T, kills int) {
	c := cloud(t)
	createTopics(t, c, 1, "line")
	h := &history{began: time.Now()}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for id := range 6 {
		clients.Go(func() { h.client(ctx, t, c.Kafka(), id) })
	}
	for range kills {
		pause := time.NewTimer(time.Duration(300+rand.IntN(700)) * time.Millisecond)
		<-pause.C
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	clients.Wait()
	h.settle(readAll(t, c.Kafka(), "line"))
	result, info := porcupine.CheckOperationsVerbose(partitionModel, h.operations, time.Minute)
	t.Logf("%d calls; of %d others nobody heard, and %d of them had happened", len(h.operations), h.unknown, h.happened)
	if result != porcupine.Ok {
		path := t.TempDir() + "/history.html"
		if err := porcupine.VisualizePath(partitionModel, info, path); err != nil {
			t.Error(err)
		}
		t.Errorf("the history is %v", result)
	}
	if len(h.operations) < 100 {
		t.Error("too little happened")
	}
}

type history struct {
	began time.Time

	mu                sync.Mutex
	operations        []porcupine.Operation // guarded by mu
	unknown, happened int                   // set by settle
}

// settle gives calls without an answer the one that the log holds, and drops
// those that it does not: they had no effect.
func (h *history) settle(log map[string]int64) {
	kept := h.operations[:0]
	for _, o := range h.operations {
		if o.Output.(answer).unknown {
			h.unknown++
			at, ok := log[o.Input.(call).id]
			if !ok {
				continue
			}
			h.happened++
			o.Output = answer{offset: at}
		}
		kept = append(kept, o)
	}
	h.operations = kept
}

// readAll returns where the first record of each call lies.
func readAll(t *testing.T, server, topic string) map[string]int64 {
	t.Helper()
	client := kafkaClient(t, server, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic)
	end, ok := ends.Lookup(topic, 0)
	if err != nil || !ok {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	at := make(map[string]int64)
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("read up to %d of %d: %v", next, end.Offset, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if _, ok := at[string(r.Value)]; !ok {
				at[string(r.Value)] = r.Offset
			}
		})
	}
	return at
}

// client makes one call after the other. Each that stays without an answer is
// the last of that client in the history: the next one has another number.
func (h *history) client(ctx context.Context, t *testing.T, server string, id int) {
	client, err := kgo.NewClient(kgo.SeedBrokers(server), kgo.RequestRetries(0), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.MaxVersions(kversion.V2_8_0())) // in which Produce names topics
	if err != nil {
		t.Error(err)
		return
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
		out := ask(t, client, admin, in)
		to := time.Since(h.began)
		if out.unknown {
			to = math.MaxInt64
		}
		if !out.unknown || in.records > 0 { // a question without an answer says nothing
			h.mu.Lock()
			h.operations = append(h.operations, porcupine.Operation{ClientId: number, Input: in, Output: out, Call: int64(from), Return: int64(to)})
			h.mu.Unlock()
		}
		if out.unknown {
			number += 100
			again := time.NewTimer(20 * time.Millisecond) // not to fill the history with what a dead node does not answer
			<-again.C
		}
	}
}

// ask makes a call, once.
func ask(t *testing.T, client *kgo.Client, admin *kadm.Client, in call) answer {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if in.records == 0 {
		ends, err := admin.ListEndOffsets(ctx, "line")
		end, ok := ends.Lookup("line", 0)
		if err != nil || !ok || end.Err != nil {
			return answer{unknown: true}
		}
		return answer{offset: end.Offset}
	}
	b := record.NewBuilder(record.None)
	for range in.records {
		if err := b.Append(&record.Record{Value: []byte(in.id)}); err != nil {
			t.Error(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		t.Error(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 3_000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: "line", Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: batch}}}}
	resp, err := req.RequestWith(ctx, client)
	if err != nil || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		return answer{unknown: true}
	}
	return answer{offset: resp.Topics[0].Partitions[0].BaseOffset}
}
