package commitlog

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// open opens the log of shard 0 and closes it at the end of the test.
func open(t testing.TB, b storage.Bucket, change ...func(*Options)) *Log {
	t.Helper()
	l, err := Open(context.Background(), options(b, change...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func options(b storage.Bucket, change ...func(*Options)) Options {
	o := Options{Bucket: b, Node: "test", Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&o)
	}
	return o
}

func createTopic(t testing.TB, l *Log, name string, partitions int32) state.Topic {
	t.Helper()
	topic, err := l.CreateTopic(context.Background(), name, partitions, nil)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// full is a batch that leaves at once, though others fly.
func full() record.Batch { return recordtest.Batch(strings.Repeat("x", leaveBytes)) }

// must is for what cannot fail in a test.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// result is the answer to an Append.
type result struct {
	base int64
	err  error
}

// send appends without waiting.
func send(l *Log, a Append) <-chan result {
	answer := make(chan result, 2) // a second answer shows up as one too many
	l.Append(a, func(base int64, err error) { answer <- result{base, err} })
	return answer
}

// appended appends and waits for success.
func appended(t testing.TB, l *Log, a Append) int64 {
	t.Helper()
	r := <-send(l, a)
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.base
}

// pending reports whether an answer is still due.
func pending(answer <-chan result) bool { return len(answer) == 0 }

// readAll reads the values of a partition, and checks that offsets are dense.
func readAll(t testing.TB, l *Log, topic weir.TopicID, partition int32) []string {
	t.Helper()
	var values []string
	for offset := int64(0); ; {
		f, err := l.Fetch(context.Background(), topic, partition, offset, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Batches) == 0 {
			if offset != f.End {
				t.Fatalf("nothing at offset %d, the end is %d", offset, f.End)
			}
			return values
		}
		for _, raw := range f.Batches {
			b := record.Batch(raw)
			if err := b.Verify(); err != nil {
				t.Fatal(err)
			}
			must(b.Each(1<<24, func(r *record.Record) error {
				if r.Offset != offset {
					t.Fatalf("offset %d where %d was due", r.Offset, offset)
				}
				offset++
				values = append(values, string(r.Value))
				return nil
			}))
		}
	}
}

// sound runs Check and fails on any problem.
func sound(t testing.TB, b storage.Bucket) check.Report {
	t.Helper()
	report, err := check.Check(context.Background(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Error(p)
	}
	return report
}

// gate holds back the Creates of data slots until it is opened.
type gate struct {
	*storagetest.Faults
	mu   sync.Mutex
	shut chan struct{} // guarded by mu; closed: slots pass
}

func newGate(b storage.Bucket) *gate {
	g := &gate{Faults: storagetest.NewFaults(b, 1), shut: make(chan struct{})}
	close(g.shut)
	g.Plan(func(c storagetest.Call) storagetest.Outcome {
		if c.Verb == storagetest.Create && strings.Contains(c.Keys[0], "/log/") {
			g.mu.Lock()
			shut := g.shut
			g.mu.Unlock()
			<-shut
		}
		return storagetest.Outcome{}
	})
	return g
}

// hold lets no slot become durable until the function that it returns is called.
func (g *gate) hold() (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut := make(chan struct{})
	g.shut = shut
	return sync.OnceFunc(func() { close(shut) })
}

// refusal returns the RefusedError of an answer.
func refusal(t testing.TB, r result) *RefusedError {
	t.Helper()
	var refused *RefusedError
	if !errors.As(r.err, &refused) {
		t.Fatalf("got %v, want a refusal", r.err)
	}
	return refused
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// pieces returns the pieces of a partition that may be compacted.
func (l *Log) pieces(key state.Place) []state.Piece {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := l.state.Partition(key)
	if p == nil {
		return nil
	}
	pieces, stable := p.Pieces, p.Stable(p.End)
	for len(pieces) > 0 && pieces[len(pieces)-1].Next > stable {
		pieces = pieces[:len(pieces)-1]
	}
	return pieces
}

// recordsOf calls each with the records of a batch.
func recordsOf(raw []byte, each func(offset int64, value string)) error {
	return record.Batch(raw).Each(1<<24, func(r *record.Record) error {
		each(r.Offset, string(r.Value))
		return nil
	})
}

// dirty returns the first of pieces that has not been compacted.
func dirty(pieces []state.Piece) int {
	for i := range pieces {
		if !pieces[i].Segment.Clean() {
			return i
		}
	}
	return len(pieces)
}
