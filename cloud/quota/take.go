package quota

import (
	"time"

	"github.com/weirmq/weir/cloud/stopwatch"
)

const (
	burst       = time.Second      // of a limit that may be used at once
	maxThrottle = 30 * time.Second // that a client is told at once; what it owes beyond is not forgotten
	manyBuckets = 10_000           // from so many on, those that nobody owes anything to are dropped
)

// Direction is where bytes go that a limit is on.
type Direction int

// Directions.
const (
	Produce Direction = iota
	Consume
	work // of limits on time, which have none
)

// bucketKey is who shares what is left of a limit: all connections of a user, of a
// client id, or of a client id of a user.
type bucketKey struct {
	Entity
	direction Direction
}

// bucket is what is left of a limit.
type bucket struct {
	level float64 // bytes, or hundredths of a second of work; below 0 they are owed
	at    time.Time
}

// Take counts bytes of a client and returns how long it has to wait, 0 for not at
// all. It never blocks.
func (q *Quotas) Take(d Direction, user, client string, bytes int) time.Duration {
	return q.take(d, user, client, float64(bytes))
}

// TakeTime is Take for time that the server has worked on requests of a client.
func (q *Quotas) TakeTime(user, client string, worked time.Duration) time.Duration {
	return q.take(work, user, client, worked.Seconds()*100)
}

func (q *Quotas) take(d Direction, user, client string, amount float64) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.limits) == 0 {
		return 0
	}
	shared, rate := q.limit(d, user, client)
	if rate == 0 {
		return 0
	}
	now := q.now()
	full := rate * burst.Seconds()
	key := bucketKey{shared, d}
	b := q.buckets[key]
	if b == nil {
		q.prune(now)
		b = &bucket{level: full, at: now}
		q.buckets[key] = b
	}
	if since := now.Sub(b.at); since > 0 {
		b.level, b.at = min(full, b.level+since.Seconds()*rate), now
	}
	b.level -= amount
	if b.level >= 0 {
		return 0
	}
	return time.Duration(min(-b.level/rate, maxThrottle.Seconds()) * float64(time.Second))
}

// prune keeps those who name a new client id each time from filling the memory.
func (q *Quotas) prune(now time.Time) {
	if len(q.buckets) < manyBuckets {
		return
	}
	for key, b := range q.buckets {
		if now.Sub(b.at) > maxThrottle {
			delete(q.buckets, key)
		}
	}
}

// limit finds the limit that counts for a client, the most particular one, and who
// shares it. The order is Kafka's.
func (q *Quotas) limit(d Direction, user, client string) (shared Entity, rate float64) {
	for _, c := range []struct {
		of     Entity
		shared Entity
	}{
		{Entity{user, client}, Entity{user, client}},
		{Entity{user, Default}, Entity{user, client}},
		{Entity{user, ""}, Entity{user, ""}},
		{Entity{Default, client}, Entity{user, client}},
		{Entity{Default, Default}, Entity{user, client}},
		{Entity{Default, ""}, Entity{user, ""}},
		{Entity{"", client}, Entity{"", client}},
		{Entity{"", Default}, Entity{"", client}},
	} {
		if rate := q.limits[c.of].rate(d); rate > 0 {
			return c.shared, rate
		}
	}
	return Entity{}, 0
}

// rate is how much of what a bucket holds there is in each second.
func (l Limits) rate(d Direction) float64 {
	switch d {
	case Produce:
		return float64(l.Produce)
	case Consume:
		return float64(l.Consume)
	default:
		return l.Request
	}
}

// Stopwatch returns one that runs, or nil while no limit is on time: then measuring
// would be for nothing.
func (q *Quotas) Stopwatch() *stopwatch.Stopwatch {
	if q.timed.Load() == 0 {
		return nil
	}
	return stopwatch.New(q.now)
}
