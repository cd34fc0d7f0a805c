package quota

import (
	"time"

	"github.com/weirmq/weir/cloud/stopwatch"
)

const (
	burst       = time.Second      // the part of a limit that may be used at once, as time
	maxThrottle = 30 * time.Second // longest throttle sent to a client; the rest of its debt is not forgotten
	manyBuckets = 10_000           // from so many on, buckets without debt are dropped
)

// Direction is the direction of the bytes that a limit is on.
type Direction int

// Directions.
const (
	Produce Direction = iota
	Consume
	work // for limits on time
)

// bucketKey identifies the clients that share a limit: all connections of a user, of a
// client id, or of a client id of a user.
type bucketKey struct {
	Entity
	direction Direction
}

// bucket is the unused part of a limit.
type bucket struct {
	level float64 // bytes, or hundredths of a second of work; a debt if below 0
	at    time.Time
}

// Take counts bytes of a client and returns how long the client must wait, possibly 0.
// It never blocks.
func (q *Quotas) Take(d Direction, user, client string, bytes int) time.Duration {
	return q.take(d, user, client, float64(bytes))
}

// TakeTime is Take for time that the server spent on requests of a client.
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

// prune keeps clients that use a new client id each time from filling the memory.
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

// limit finds the most specific limit that applies to a client, and the entity that
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

// rate returns how fast a bucket fills, per second.
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

// Stopwatch returns a running stopwatch, or nil if no limit is on time: then measuring
// would be of no use.
func (q *Quotas) Stopwatch() *stopwatch.Stopwatch {
	if q.timed.Load() == 0 {
		return nil
	}
	return stopwatch.New(q.now)
}
