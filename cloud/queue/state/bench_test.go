package state

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// publish publishes groups at the end of the vhost of newState.
func publish(t testing.TB, s *State, groups ...Group) {
	t.Helper()
	apply(t, s, KindPublish, (&Published{Vhost: topic(), Base: s.VhostOf(topic()).End(), Groups: groups}).Append(nil))
}

func settings(n int) []Settings {
	all := make([]Settings, n)
	for i := range all {
		all[i] = plain()
	}
	return all
}

func BenchmarkPublish(b *testing.B) {
	fanout := Group{Count: 1, Bytes: 100}
	for id := range 100 {
		fanout.Queues = append(fanout.Queues, QueueID(1+id))
	}
	spread := make([]Group, 1000)
	for i := range spread {
		spread[i] = Group{Count: 1, Queues: []QueueID{QueueID(1 + i%100)}, Bytes: 100}
	}
	for name, groups := range map[string][]Group{
		"one":                    {{Count: 1, Queues: []QueueID{1}, Bytes: 100}},
		"1000 in a row":          {{Count: 1000, Queues: []QueueID{1}, Bytes: 100}},
		"one to 100 queues":      {fanout},
		"1000, 10 to each queue": spread,
	} {
		b.Run(name, func(b *testing.B) {
			s, v := newState(b, settings(100)...)
			p := Published{Vhost: topic(), Groups: groups}
			var body []byte
			b.ReportAllocs()
			for b.Loop() {
				p.Base = v.End()
				body = p.Append(body[:0])
				apply(b, s, KindPublish, body)
			}
		})
	}
}

// BenchmarkSettle settles what a queue of ten million has, from its head on.
func BenchmarkSettle(b *testing.B) {
	for name, ranges := range map[string][]Range{
		"1000 in a row":     {{0, 999}},
		"every second":      everyNth(1000, 2),
		"the other half":    {{0, 1999}},
		"every ninth":       everyNth(100, 9),
		"1000 are released": nil,
	} {
		b.Run(name, func(b *testing.B) {
			s, v := newState(b, plain())
			b.ReportAllocs()
			var body []byte
			at := v.End()
			for b.Loop() {
				if at+2000 > v.End() {
					b.StopTimer()
					at = v.End()
					publish(b, s, Group{Count: 10_000_000, Queues: []QueueID{1}})
					b.StartTimer()
				}
				x := Settled{Vhost: topic(), Queues: []QueueSettled{{ID: 1, Lent: -1}}}
				for _, r := range ranges {
					x.Queues[0].Gone = append(x.Queues[0].Gone, Range{at + r.First, at + r.Last})
				}
				if ranges == nil {
					x.Queues[0].Counted = []Range{{at, at + 999}}
				}
				at += 2000
				body = x.Append(body[:0])
				apply(b, s, KindSettle, body)
			}
		})
	}
}

func everyNth(n, step int64) []Range {
	all := make([]Range, n)
	for i := range all {
		all[i] = Range{step * int64(i), step*int64(i) + step/10}
	}
	return all
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// backlogs fill the queue of a State.
func backlogs() map[string]func(b *testing.B, s *State) {
	return map[string]func(b *testing.B, s *State){
		"10M in a row": func(b *testing.B, s *State) {
			for range 10_000 {
				publish(b, s, Group{Count: 1000, Queues: []QueueID{1}})
			}
		},
		"every hundredth of 1G": func(b *testing.B, s *State) {
			for range 10_000 {
				groups := make([]Group, 0, 2000)
				for range 1000 {
					groups = append(groups, Group{Count: 1, Queues: []QueueID{1}}, Group{Count: 99})
				}
				publish(b, s, groups...)
			}
		},
		"a random half of 20M": func(b *testing.B, s *State) {
			r := rand.New(rand.NewPCG(1, 1))
			for range 20_000 {
				groups := make([]Group, 1000)
				for i := range groups {
					if groups[i].Count = 1; r.IntN(2) == 0 {
						groups[i].Queues = []QueueID{1}
					}
				}
				publish(b, s, groups...)
			}
		},
	}
}

// BenchmarkBacklog measures what a queue with a backlog takes: memory, as it was made and
// after a snapshot, and the time of a snapshot and a restore.
func BenchmarkBacklog(b *testing.B) {
	for name, fill := range backlogs() {
		b.Run(name, func(b *testing.B) {
			before := heap()
			s, v := newState(b, plain())
			fill(b, s)
			n := float64(v.Queue("a").Len())
			made := heap() - before
			measure(b, s)
			b.ReportMetric(float64(made)/n, "B/message")
			b.ReportMetric(float64(heap()-before)/n, "B/message-after")
			runtime.KeepAlive(s)
		})
	}
}

// measure reports the time of snapshots and restores, and the size.
func measure(b *testing.B, s *State) {
	b.Helper()
	var body []byte
	for b.Loop() {
		body = s.Snapshot()
	}
	b.ReportMetric(float64(len(body)), "B/snapshot")
	begun := time.Now()
	for range 3 {
		if err := New().Restore(body); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(time.Since(begun).Nanoseconds()/3), "ns/restore")
}

// BenchmarkQueues is a vhost of ten thousand queues with messages of all of them mixed.
func BenchmarkQueues(b *testing.B) {
	before := heap()
	s, _ := newState(b)
	all := make([]Declaration, 10_000)
	for i := range all {
		all[i].Queue = &QueueDeclared{fmt.Sprint("queue", i), plain()}
	}
	apply(b, s, KindDeclare, EncodeDeclare("v", all))
	empty := heap() - before
	for range 100 {
		groups := make([]Group, 10_000)
		for i := range groups {
			groups[i] = Group{Count: 1, Queues: []QueueID{QueueID(1 + i)}, Bytes: 100}
		}
		publish(b, s, groups...)
	}
	made := heap() - before
	measure(b, s)
	b.ReportMetric(float64(empty)/10_000, "B/queue-empty")
	b.ReportMetric(float64(made)/10_000, "B/queue")
	b.ReportMetric(float64(heap()-before)/10_000, "B/queue-after")
	runtime.KeepAlive(s)
}

// BenchmarkDelayed is ten million messages that are due at random within a month, and as
// many that are due half a minute after they came, at ten thousand a second.
func BenchmarkDelayed(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for name, due := range map[string]func(i int64) int64{
		"a month":  func(int64) int64 { return 1 + r.Int64N(30*24*3600*1000) },
		"in a row": func(i int64) int64 { return 1 + i/10 + 30_000 },
	} {
		b.Run(name, func(b *testing.B) {
			const n = 10_000_000
			before := heap()
			s, v := newState(b)
			p := Published{Vhost: topic(), Groups: []Group{{Count: 1000}}, Special: make([]Special, 1000)}
			var body []byte
			for p.Base = 0; p.Base < n; p.Base += 1000 {
				for i := range p.Special {
					p.Special[i] = Special{Index: i, NotBefore: due(p.Base + int64(i))}
				}
				body = p.Append(body[:0])
				apply(b, s, KindPublish, body)
			}
			made := heap() - before
			measure(b, s)
			b.ReportMetric(float64(made)/n, "B/message")
			begun := time.Now()
			if ms, ok := v.DelayedUntil(); !ok || len(v.DelayedIn(ms, 1000)) == 0 {
				b.Fatal("nothing is due")
			}
			b.ReportMetric(float64(time.Since(begun).Nanoseconds()), "ns/open")
			runtime.KeepAlive(s)
		})
	}
}

// BenchmarkNext walks a queue as its engine does.
func BenchmarkNext(b *testing.B) {
	for name, fill := range backlogs() {
		b.Run(name, func(b *testing.B) {
			s, v := newState(b, plain())
			fill(b, s)
			q, next := v.Queue("a"), int64(0)
			b.ReportAllocs()
			for b.Loop() {
				id, ok := q.Next(0, next)
				if next = id + 1; !ok {
					next = 0
				}
			}
		})
	}
}
