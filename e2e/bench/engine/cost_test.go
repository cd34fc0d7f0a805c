package engine

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// Dollars for a request to S3 Standard in us-east-1.
const (
	perPut    = 5.0 / 1e6 // PUT and LIST
	perGet    = 0.4 / 1e6
	perDelete = 0
)

// dollars is the bill.
func (r requests) dollars() float64 {
	return float64(r.Puts+r.Lists)*perPut + float64(r.Gets)*perGet + float64(r.Deletes)*perDelete
}

const (
	month  = 730 * time.Hour
	linger = 100 * time.Millisecond // of weir-cloud on s3
)

// Traits are those of S3.
func (far) Traits() storage.Traits { return storage.Traits{Billed: true} }

// far is a bucket on the other side of a network, in the time of a synctest
// bubble: S3 with 30 ms for a PUT, 15 ms for anything else, and 100 MB/s for each
// request.
type far struct{ storage.Bucket }

func transfer(n int) time.Duration { return time.Duration(n) * 10 * time.Nanosecond }

func (f far) Create(ctx context.Context, key string, body []byte) error {
	time.Sleep(30*time.Millisecond + transfer(len(body)))
	return f.Bucket.Create(ctx, key, body)
}

func (f far) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	body, err := f.Bucket.Get(ctx, key, off, n)
	time.Sleep(15*time.Millisecond + transfer(len(body)))
	return body, err
}

func (f far) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	time.Sleep(15 * time.Millisecond)
	return f.Bucket.List(ctx, prefix, after, max)
}

func (f far) Delete(ctx context.Context, keys ...string) error {
	time.Sleep(15 * time.Millisecond)
	return f.Bucket.Delete(ctx, keys...)
}

// rig is a log on a far bucket, in a bubble. Its second owner leads it, so that
// there was a takeover, and it has done the upkeep that comes once with each.
type rig struct {
	*testing.T
	mem   *mem.Bucket
	n     *counter
	log   *commitlog.Log
	topic state.Topic
}

// newRig starts with a topic that keeps so many bytes in each of its four
// partitions.
func newRig(t *testing.T, retention string) *rig {
	t.Helper()
	r := &rig{T: t, mem: mem.New()}
	r.open()
	var err error
	if r.topic, err = r.log.CreateTopic(t.Context(), "bench", 4, map[string]string{"retention.bytes": retention}); err != nil {
		t.Fatal(err)
	}
	r.open()
	r.maintain()
	return r
}

// open makes a new owner, with cold caches.
func (r *rig) open() {
	r.Helper()
	if r.log != nil {
		r.close()
	}
	r.n = &counter{below: far{r.mem}}
	var err error
	if r.log, err = openLog(r.Context(), r.n, func(o *commitlog.Options) { o.Linger = linger }); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) close() {
	r.Helper()
	if err := r.log.Close(); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) maintain() {
	r.Helper()
	if err := r.log.Maintain(r.Context()); err != nil {
		r.Fatal(err)
	}
}

// append sends without waiting.
func (r *rig) append(partition int, batch record.Batch, done func()) {
	r.log.Append(commitlog.Append{Topic: r.topic.ID, Partition: int32(partition % 4), Batch: bytes.Clone(batch)}, func(_ int64, err error) {
		if err != nil {
			r.Error(err)
		}
		done()
	})
}

// asked is the requests that do makes.
func (r *rig) asked(do func()) requests {
	before := r.n.count()
	do()
	return r.n.count().minus(before)
}

// behind is the bytes of the slots that are in the bucket.
func (r *rig) behind() (size int64) {
	keys, err := r.mem.List(r.Context(), "0000/log/", "", 1<<30)
	if err != nil {
		r.Fatal(err)
	}
	for _, key := range keys {
		body, err := r.mem.Get(r.Context(), key, 0, -1)
		if err != nil {
			r.Fatal(err)
		}
		size += int64(len(body))
	}
	return size
}

// write sends a record of 1 KB whenever period is over, and rewrites all of them.
// behind: the bytes in slots before it did that at the end.
func (r *rig) write(period, length time.Duration) (asked requests, behind int64) {
	one, err := batchOf(1, 1000)
	if err != nil {
		r.Fatal(err)
	}
	asked = r.asked(func() {
		var wg sync.WaitGroup
		for i := range int(length / period) {
			wg.Add(1)
			r.append(i, one, wg.Done)
			time.Sleep(period)
		}
		wg.Wait()
		behind = r.behind()
		r.maintain()
	})
	return asked, behind
}

// saturate sends batches of 100 records from 64 producers, and rewrites all of
// them.
func (r *rig) saturate(batches int64) (asked requests, took time.Duration) {
	hundred, err := batchOf(100, 1000)
	if err != nil {
		r.Fatal(err)
	}
	asked = r.asked(func() {
		began := time.Now()
		var left atomic.Int64
		left.Store(batches)
		var wg sync.WaitGroup
		for p := range 64 {
			wg.Go(func() {
				room := make(chan struct{}, 5)
				for left.Add(-1) >= 0 {
					room <- struct{}{}
					r.append(p, hundred, func() { <-room })
				}
				for range cap(room) {
					room <- struct{}{}
				}
			})
		}
		wg.Wait()
		took = time.Since(began)
		r.maintain()
	})
	return asked, took
}

// read fetches everything, as a consumer does who asks for 1 MiB at a time.
func (r *rig) read() (asked requests, size int64) {
	asked = r.asked(func() {
		for partition := range r.topic.Partitions {
			start, end, err := r.log.Bounds(r.topic.ID, partition)
			if err != nil {
				r.Fatal(err)
			}
			for offset := start; offset < end; {
				f, err := r.log.Fetch(r.Context(), r.topic.ID, partition, offset, 1<<20)
				if err != nil || len(f.Batches) == 0 {
					r.Fatalf("fetch of offset %d: %d batches, %v", offset, len(f.Batches), err)
				}
				for _, b := range f.Batches {
					size += int64(len(b))
					offset = record.Batch(b).NextOffset()
				}
			}
		}
	})
	return asked, size
}

// idle lets time pass, with an owner who asks whether it is still the owner as
// weir-cloud does.
func (r *rig) idle(d time.Duration) requests {
	ctx, cancel := context.WithCancel(r.Context())
	confirmed := make(chan error)
	go func() { confirmed <- cluster.Confirm(ctx, 0, r.log.Confirm, func(bool) {}) }()
	asked := r.asked(func() { time.Sleep(d) })
	cancel()
	if err := <-confirmed; err != nil {
		r.Error(err)
	}
	return asked
}

// rates are how much is written, and for how long.
type rate struct {
	name           string
	period, length time.Duration
}

func rates() []rate {
	if soak() {
		return []rate{
			{"1 KB/s", time.Second, time.Hour}, {"10 KB/s", 100 * time.Millisecond, time.Hour},
			{"100 KB/s", 10 * time.Millisecond, time.Hour}, {"1 MB/s", time.Millisecond, time.Hour},
			{"10 MB/s", 100 * time.Microsecond, 2 * time.Minute}, {"26 MB/s", 38 * time.Microsecond, 2 * time.Minute},
		}
	}
	return []rate{{"10 KB/s", 100 * time.Millisecond, time.Hour}, {"1 MB/s", time.Millisecond, 3 * time.Minute}, {"26 MB/s", 38 * time.Microsecond, 20 * time.Second}}
}

// TestCost: what the engine asks of S3. In a steady state it lists nothing, and a
// month in which nothing is written costs less than two dollars.
func TestCost(t *testing.T) {
	bill := &table{title: "Requests to S3 and their price: PUT and LIST $5, GET $0.40 per million, DELETE free; --linger 100ms",
		head: []string{"", "for", "PUT a second", "PUT", "GET", "LIST", "DELETE", "MB read", "dollars", "dollars a month", "MB in slots at the end"}}
	note := func(name, unit string, asked requests, units float64, rate, monthly, behind any) {
		if asked.Lists != 0 {
			t.Errorf("%s: %d Lists", name, asked.Lists)
		}
		per := func(n int64) float64 { return float64(n) / units }
		bill.row(name, unit, rate, per(asked.Puts), per(asked.Gets), per(asked.Lists), per(asked.Deletes), per(asked.GetBytes)/1e6, asked.dollars()/units, monthly, behind)
	}
	for _, x := range rates() {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, "64000000")
			defer r.close()
			asked, behind := r.write(x.period, x.length)
			rate := float64(asked.Puts) / x.length.Seconds()
			// Slots, and what they are rewritten into: one segment and its entries for each 32 MB.
			if most := 1/linger.Seconds() + 1 + float64(x.length/x.period)/1e3/x.length.Seconds()/10; rate > most {
				t.Errorf("%s: %.1f PUTs a second, want %.1f at most: the linger does not hold", x.name, rate, most)
			}
			note("written at "+x.name, "GB", asked, float64(x.length/x.period)/1e6, rate, asked.dollars()*float64(month)/float64(x.length), float64(behind)/1e6)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		const batches = 2000 // of 100 KB
		r := newRig(t, "-1")
		defer func() { r.close() }()
		asked, took := r.saturate(batches)
		note("written as fast as it goes: "+cell(batches*0.1/took.Seconds())+" MB/s", "GB", asked, batches/1e4, float64(asked.Puts)/took.Seconds(), "-", "-")
		r.open()
		r.maintain()
		asked, size := r.read()
		note("read from segments, 1 MiB at a time", "GB", asked, float64(size)/1e9, "-", "-", "-")
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "64000000")
		defer r.close()
		r.write(time.Millisecond, 10*time.Second)
		first := r.idle(time.Hour)
		note("first idle hour", "hour", first, 1, "-", "-", "-")
		asked := r.idle(time.Hour)
		monthly := asked.dollars() * month.Hours()
		note("idle", "hour", asked, 1, "-", monthly, "-")
		if monthly >= 2 {
			t.Errorf("an idle month costs %.2f dollars: %+v an hour", monthly, asked)
		}
	})
	t.Log(bill)
}
