package engine

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/record"
)

// scanBytes of the environment is how much the soak test of a reader writes and
// reads; 20 GB.
const scanBytes = "WEIR_SOAK_BYTES"

// scanning says what scan does.
type scanning struct {
	Dir   string        // of a file bucket that fill has filled
	Alone time.Duration // how long the tail runs without the reader first
}

// scanned is what it found.
type scanned struct {
	Records int64
	Bytes   int64   // of batches
	Read    float64 // seconds

	Before        usage // when the reading began
	RSS, Anon     []int64
	Alone, Beside delays
}

// delays are the times from the moment at which a record was due until a consumer
// had it.
type delays struct {
	Records  int
	P50, P99 time.Duration
	Longest  time.Duration
}

// sampling is how often scan looks at its memory.
const sampling = 100 * time.Millisecond

// scan reads a topic from its first record to its last, as fast as it can, while
// beside it 1,000 records a second go through another one.
func scan(ctx context.Context, a scanning) (r scanned, err error) {
	f, err := file.Open(a.Dir)
	if err != nil {
		return r, err
	}
	log, err := openLog(ctx, f)
	if err != nil {
		return r, err
	}
	topic, found := log.Topic("long")
	if !found {
		return r, fmt.Errorf("no topic to read in %s", a.Dir)
	}
	alone, err := openTail(ctx, log, "alone")
	if err != nil {
		return r, err
	}
	time.Sleep(a.Alone)
	if r.Alone, err = alone.stop(); err != nil {
		return r, err
	}
	beside, err := openTail(ctx, log, "beside")
	if err != nil {
		return r, err
	}
	debug.FreeOSMemory() // what the recovery took is not to hide what the reader takes
	if r.Before, err = used(); err != nil {
		return r, err
	}
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- r.readAll(ctx, log, topic) }()
	for tick := time.NewTicker(sampling); err == nil; {
		select {
		case err = <-ended:
			tick.Stop()
			if err != nil {
				return r, err
			}
			r.Read = time.Since(began).Seconds()
			if r.Beside, err = beside.stop(); err != nil {
				return r, err
			}
			return r, log.Close()
		case <-tick.C:
			var u usage
			u, err = resident()
			r.RSS, r.Anon = append(r.RSS, u.RSS), append(r.Anon, u.Anon)
		}
	}
	return r, err
}

// readAll reads all partitions side by side, a MiB of each in turn, and proves that
// no offset is left out.
func (r *scanned) readAll(ctx context.Context, log *commitlog.Log, topic state.Topic) error {
	next := make([]int64, topic.Partitions)
	for more := true; more; {
		more = false
		for p := range topic.Partitions {
			got, err := log.Fetch(ctx, topic.ID, p, next[p], 1<<20)
			if err != nil {
				return err
			}
			for _, raw := range got.Batches {
				b := record.Batch(raw)
				if b.BaseOffset() != next[p] {
					return fmt.Errorf("partition %d: offset %d where %d was due", p, b.BaseOffset(), next[p])
				}
				r.Records, r.Bytes = r.Records+int64(b.Count()), r.Bytes+int64(len(raw))
				next[p] = b.NextOffset()
			}
			more = more || next[p] < got.End
		}
	}
	return nil
}

// tail is a producer and a consumer of one partition.
type tail struct {
	log   *commitlog.Log
	topic state.Topic
	began time.Time
	last  chan int64    // how many records the producer has sent, when it has ended
	end   chan struct{} // closed to end it
	done  chan error    // of the consumer
	took  []time.Duration
}

// tailPeriod is the time from one record of a tail to the next.
const tailPeriod = time.Millisecond

func openTail(ctx context.Context, log *commitlog.Log, name string) (*tail, error) {
	topic, err := log.CreateTopic(ctx, name, 1, nil)
	if err != nil {
		return nil, err
	}
	t := &tail{log: log, topic: topic, began: time.Now(), last: make(chan int64, 1), end: make(chan struct{}), done: make(chan error, 1)}
	// Its own memory is no part of what is measured: here is room for minutes.
	t.took = make([]time.Duration, 0, 1_000_000)
	go t.produce()
	go func() { t.done <- t.consume(ctx) }()
	return t, nil
}

// produce sends a record when it is due, whatever became of those before it.
func (t *tail) produce() {
	answers := make(chan error, 1)
	sent := int64(0)
	for tick := time.NewTicker(tailPeriod); ; {
		select {
		case <-t.end:
			tick.Stop()
			t.last <- sent
			return
		case err := <-answers:
			t.done <- err
			t.last <- sent
			return
		case <-tick.C:
		}
		for ; time.Since(t.began) >= time.Duration(sent)*tailPeriod; sent++ {
			batch, err := batchOf(1, 100)
			if err != nil {
				answers <- err
				break
			}
			t.log.Append(commitlog.Append{Topic: t.topic.ID, Batch: batch}, func(_ int64, err error) {
				if err != nil {
					select {
					case answers <- err:
					default: // one is enough
					}
				}
			})
		}
	}
}

// consume notes for each record how long after it was due it was there.
func (t *tail) consume(ctx context.Context) error {
	last := int64(-1)
	for next := int64(0); last < 0 || next < last; {
		grown := t.log.Watch(t.topic.ID, 0)
		got, err := t.log.Fetch(ctx, t.topic.ID, 0, next, 1<<20)
		if err != nil {
			return err
		}
		for _, raw := range got.Batches {
			for end := record.Batch(raw).NextOffset(); next < end; next++ {
				t.took = append(t.took, time.Since(t.began)-time.Duration(next)*tailPeriod)
			}
		}
		if len(got.Batches) > 0 {
			continue
		}
		select {
		case <-grown:
		case last = <-t.last:
		}
	}
	return nil
}

// stop ends the producer, and the consumer when it has everything.
func (t *tail) stop() (d delays, err error) {
	close(t.end)
	if err := <-t.done; err != nil {
		return d, err
	}
	slices.Sort(t.took)
	d = delays{Records: len(t.took), P50: percentile(t.took, 50), P99: percentile(t.took, 99)}
	if d.Records > 0 {
		d.Longest = t.took[d.Records-1]
	}
	return d, nil
}

// caches is what a log keeps in memory by default, of what was written and of what
// was read, and as much again for the collector.
const caches = 2 * (64<<20 + 32<<20)

// TestScan: a consumer who reads a long topic from its beginning takes no more
// memory the longer it is, and leaves those room who read the newest records.
func TestScan(t *testing.T) {
	const size, batch = 1000, 1000
	total, alone := int64(100_000_000), time.Second
	if soak() {
		n, err := strconv.ParseInt(cmp.Or(os.Getenv(scanBytes), "20000000000"), 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", scanBytes, err)
		}
		total, alone = n, 20*time.Second
	}
	records := total / size / (8 * batch) * (8 * batch) // as many for each producer
	dir := filepath.Join(t.TempDir(), "bucket")
	needsSpace(t, filepath.Dir(dir), total/4*9)
	w := inChild[filled](t, "fill", filling{Dir: dir, Records: records, Size: size})
	written := &table{title: "Written: records of 1,000 bytes, 1,000 in a batch, 8 producers with 8 batches in flight, file bucket",
		head: []string{"GB", "s", "MB/s", "held back s", "left in slots MB", "slots", "checkpoints", "RSS MiB", "peak MiB"}}
	written.row(float64(w.Bytes)/1e9, w.Append, float64(w.Bytes)/w.Append/1e6, w.Throttled, float64(w.Waiting)/1e6, w.Asked.Slots, w.Asked.Checkpoints,
		mib(w.Memory.RSS), mib(w.Memory.Peak))

	r := inChild[scanned](t, "scan", scanning{Dir: dir, Alone: alone})
	most, anon := slices.Max(append(r.RSS, r.Before.RSS)), slices.Max(append(r.Anon, r.Before.Anon))
	read := &table{title: "Read from the first record to the last by a process that has just started, 1,000 records a second passing through another topic meanwhile",
		head: []string{"GB", "s", "MB/s", "RSS MiB before", "at most", "anonymous", "at most"}}
	read.row(float64(r.Bytes)/1e9, r.Read, float64(r.Bytes)/r.Read/1e6, mib(r.Before.RSS), mib(most), mib(r.Before.Anon), mib(anon))
	course := &table{title: "RSS in the course of the reading, MiB, the highest in each tenth", head: slices.Repeat([]string{" "}, 10)}
	var tenths []any
	for i := range 10 {
		part := r.RSS[len(r.RSS)*i/10 : len(r.RSS)*(i+1)/10]
		tenths = append(tenths, mib(slices.Max(append(part, 0))))
	}
	course.row(tenths...)
	tails := &table{title: "From the moment at which a record was due until a consumer had it, ms", head: []string{"reader", "records", "p50", "p99", "longest"}}
	for _, x := range []struct {
		name string
		delays
	}{{"none", r.Alone}, {"one", r.Beside}} {
		tails.row(x.name, x.Records, ms(x.P50), ms(x.P99), ms(x.Longest))
	}
	t.Log(written, read, course, tails)
	if r.Records != records {
		t.Errorf("%d records, want %d", r.Records, records)
	}
	if !soak() {
		return
	}
	if grown := most - slices.Max(append(r.RSS[:len(r.RSS)/10], r.Before.RSS)); grown > 64<<20 {
		t.Errorf("the reader took %.0f MiB more with time", mib(grown))
	}
	if grown := most - r.Before.RSS; grown > caches {
		t.Errorf("the reader took %.0f MiB", mib(grown))
	}
	if limit := 20 * max(r.Alone.P99, 5*time.Millisecond); r.Beside.P99 > limit {
		t.Errorf("p99 of the tail is %v beside a reader, %v without", r.Beside.P99, r.Alone.P99)
	}
}
