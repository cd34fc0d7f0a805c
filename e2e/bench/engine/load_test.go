package engine

import (
	"cmp"
	"slices"
	"sync"
	"testing"
	"time"
)

// load is a number of producers that send batches of records. Each has up to flight
// batches without an answer.
type load struct {
	producers, records, flight int
}

// outcome is what a load got.
type outcome struct {
	batches int64
	took    time.Duration   // until the last answer
	acks    []time.Duration // from sending to the answer, in order of length
	err     error           // the first one
}

// add puts the outcome of another run of the same load to o.
func (o *outcome) add(other outcome) {
	o.batches += other.batches
	o.took += other.took
	o.acks = append(o.acks, other.acks...)
	slices.Sort(o.acks)
	o.err = cmp.Or(o.err, other.err)
}

// rate is batches a second; 0 if there were none.
func (o *outcome) rate() float64 {
	if o.batches == 0 {
		return 0
	}
	return float64(o.batches) / o.took.Seconds()
}

func (o outcome) must(b *testing.B) outcome {
	b.Helper()
	if o.err != nil {
		b.Fatal(o.err)
	}
	return o
}

// run sends for some time, and at most so many batches. send must call done once,
// from any goroutine.
func (l load) run(limit time.Duration, most int64, send func(producer int, done func(error))) outcome {
	var all outcome
	var mu sync.Mutex // guards all
	var wg sync.WaitGroup
	began := time.Now()
	for p := range l.producers {
		wg.Go(func() {
			got := l.produce(began.Add(limit), most/int64(l.producers), func(done func(error)) { send(p, done) })
			mu.Lock()
			defer mu.Unlock()
			all.add(got)
		})
	}
	wg.Wait()
	all.took = time.Since(began)
	return all
}

// produce is one producer.
func (l load) produce(until time.Time, most int64, send func(done func(error))) outcome {
	var got outcome
	var mu sync.Mutex // guards got
	room := make(chan struct{}, l.flight)
	for sent := int64(0); sent < most && time.Now().Before(until); sent++ {
		room <- struct{}{}
		mu.Lock()
		failed := got.err != nil
		mu.Unlock()
		if failed {
			<-room
			break
		}
		start := time.Now()
		send(func(err error) {
			took := time.Since(start)
			mu.Lock()
			got.batches++
			got.acks = append(got.acks, took)
			if err != nil && got.err == nil {
				got.err = err
			}
			mu.Unlock()
			<-room
		})
	}
	for range l.flight {
		room <- struct{}{}
	}
	return got
}
