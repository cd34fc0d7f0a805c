package share

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// slow is a bucket whose writes take time.
type slow struct {
	storage.Bucket
	mu     *sync.Mutex
	random *rand.Rand // guarded by mu
}

func (b slow) Create(ctx context.Context, key string, body []byte) error {
	b.mu.Lock()
	takes := time.Duration(b.random.IntN(20)) * time.Millisecond
	b.mu.Unlock()
	time.Sleep(takes)
	return b.Bucket.Create(ctx, key, body)
}

// world is a shard with one topic, and the group that the tests use.
type world struct {
	*Manager
	t      *testing.T
	bucket storage.Bucket
	opts   Options
	log    *commitlog.Log
	topic  weir.TopicID
}

// run runs a test with a manager that serves, in a bubble of fake time.
func run(t *testing.T, seed uint64, s Settings, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, bucket: slow{mem.New(), new(sync.Mutex), rand.New(rand.NewPCG(seed, 2))}}
		w.opts = Options{Settings: func(string) Settings { return s }, Log: slog.New(slog.DiscardHandler)}
		w.open()
		topic, err := w.log.CreateTopic(t.Context(), "t", 2, nil)
		w.want(err, nil)
		w.topic = topic.ID
		if s.DeadLetters != "" {
			_, err := w.log.CreateTopic(t.Context(), s.DeadLetters, 1, map[string]string{DeadLetterEnable: "true"})
			w.want(err, nil)
		}
		test(w)
		w.want(w.Manager.Close(), nil)
		w.want(w.log.Close(), nil)
	})
}

// open makes a new owner, which fences the one before.
func (w *world) open() {
	w.t.Helper()
	m := New(w.opts)
	log, err := commitlog.Open(w.t.Context(), commitlog.Options{Bucket: w.bucket, Node: "n", Machines: []logstate.Machine{m}, Log: w.opts.Log})
	w.want(err, nil)
	m.Start(w.t.Context(), machine.WaitingLog{Log: log})
	w.Manager, w.log = m, log
}

// crash replaces the owner. The one before does not end what it has begun.
func (w *world) crash() {
	w.t.Helper()
	before, log := w.Manager, w.log
	w.open()
	_ = log.Close() // it is fenced
	w.want(before.Close(), nil)
}

func (w *world) want(got, want error) {
	w.t.Helper()
	if !errors.Is(got, want) {
		w.t.Fatalf("%v, want %v", got, want)
	}
}

func (w *world) place() Place { return w.of(0) }

func (w *world) of(partition int32) Place {
	return Place{Group: "g", Topic: w.topic, Partition: partition}
}

// append appends a batch and returns its first offset.
func (w *world) append(b record.Batch) int64 {
	w.t.Helper()
	type answer struct {
		base int64
		err  error
	}
	answers := make(chan answer, 1)
	w.log.Append(commitlog.Append{Topic: w.topic, Batch: b}, func(base int64, err error) { answers <- answer{base, err} })
	a := <-answers
	w.want(a.err, nil)
	return a.base
}

// transaction appends records of a transaction, and how it ended.
func (w *world) transaction(producer int64, epoch int16, commit bool, values ...string) int64 {
	w.t.Helper()
	base := w.append(recordtest.Transactional(producer, epoch, 0, values...))
	w.want(w.log.ProposeAll(w.t.Context(), nil, &commitlog.TransactionEnd{Producer: producer, Epoch: epoch, Commit: commit,
		Partitions: []logstate.Place{{Topic: w.topic}}}), nil)
	return base
}

// acquire returns what a member gets, and checks that the batches hold it.
func (w *world) acquire(member string, records int) []Delivery {
	w.t.Helper()
	a, err := w.Acquire(w.t.Context(), Request{Place: w.place(), Member: member, Bytes: 1 << 20, Records: records})
	w.want(err, nil)
	for _, d := range a.Records {
		for o := d.First; o <= d.Last; o++ {
			found := false
			for _, b := range a.Batches {
				found = found || record.Batch(b).BaseOffset() <= o && o < record.Batch(b).NextOffset()
			}
			if !found {
				w.t.Fatalf("record %d was acquired and is in none of the batches", o)
			}
		}
	}
	if len(a.Records) > 0 {
		a.Lease.Release()
	} else if len(a.More) == 0 {
		w.t.Fatal("no records, and nothing to wait for")
	}
	return a.Records
}

// ack waits until a verdict is durable.
func (w *world) ack(member string, first, last int64, v ...Verdict) error {
	w.t.Helper()
	done := make(chan error, 1)
	w.Acknowledge(w.place(), member, []Acknowledgement{{first, last, v}}, func(err error) { done <- err })
	return <-done
}

func (w *world) offsets() Offsets {
	w.t.Helper()
	all, err := w.Offsets("g")
	w.want(err, nil)
	if len(all) != 1 {
		w.t.Fatalf("the group shares %v", all)
	}
	return all[0]
}
