package kafka

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/budget"
)

// Memory of the door in addition to Options.
const (
	strangerBytes = 1 << 20  // requests of clients that have not logged in, of all listeners
	pollBytes     = 16 << 20 // of Fetches that wait for records
	requestCost   = 512      // of a request, in addition to its frame
	maxPoll       = 5 * time.Minute
)

// makePools makes the pools of memory and their metrics.
func (s *Server) makePools() (err error) {
	small := int64(smallFrame + requestCost)
	for _, p := range []struct {
		pool **budget.Pool
		o    budget.PoolOptions
	}{
		{&s.strangers, budget.PoolOptions{Name: "kafka_strangers", Bytes: strangerBytes, Reserve: strangerBytes / 4, Largest: shortRequest}},
		{&s.memory, budget.PoolOptions{Name: "kafka_requests", Bytes: int64(s.o.MemoryBytes), Largest: int64(s.o.MaxRequest), Peer: int64(s.o.MemoryBytes / 2)}},
		{&s.relayed, budget.PoolOptions{Name: "kafka_tunnels", Bytes: int64(s.o.MemoryBytes), Largest: int64(s.o.MaxRequest), Peer: int64(s.o.MemoryBytes / 2)}},
		{&s.answers, budget.PoolOptions{Name: "kafka_answers", Bytes: int64(s.o.AnswerBytes), Largest: int64(s.largestAnswer())}},
		{&s.owners, budget.PoolOptions{Name: "kafka_relayed", Bytes: int64(s.o.AnswerBytes), Largest: int64(s.largestAnswer())}},
		{&s.polls, budget.PoolOptions{Name: "kafka_polls", Bytes: pollBytes, Reserve: 1, Largest: pollBytes / 4}},
	} {
		p.o.Small, p.o.Log = small, s.o.Log
		if *p.pool, err = s.o.Metrics.Pool(p.o); err != nil {
			return fmt.Errorf("kafka door: %w", err)
		}
	}
	return nil
}

// largestAnswer returns the most memory that one answer takes. A batch that is larger
// takes that much.
func (s *Server) largestAnswer() int {
	return min(s.o.AnswerBytes/4, max(s.o.MaxResponse, s.o.MaxRequest))
}

// pollWeight estimates the bytes that a Fetch or ShareFetch holds while it waits.
func pollWeight(topics, partitions int) int {
	const topic, partition = 300, 400 // of the request, the answer, and the watch
	return topic*topics + partition*partitions
}

// fetchWeight is pollWeight for a Fetch.
func fetchWeight(q *kmsg.FetchRequest) int {
	n := 0
	for i := range q.Topics {
		n += len(q.Topics[i].Partitions)
	}
	return pollWeight(len(q.Topics), n)
}

// cutPause is the longest time for which nothing is read from a client whose long
// poll was cut: it would ask again at once.
const cutPause = 500 * time.Millisecond

// smallPoll is the weight of a Fetch that may always wait.
const smallPoll = 16 << 10

// park takes memory for a Fetch of that weight that has to wait for records. It returns
// false if there is none; then the Fetch is answered at once.
func (c *conn) park(weight int) (leave func(), ok bool) {
	if weight <= smallPoll {
		return func() {}, true
	}
	claim := c.polls.TryTake(int64(weight))
	if claim == nil {
		c.s.count.cut.Inc()
		return nil, false
	}
	return claim.Release, true
}

// giveWay closes a connection whose seat another connection gets.
func (c *conn) giveWay() { c.cancel(errGone) }

// refuse closes a connection that is not served.
func (c *conn) refuse() {
	c.cancel(errGone)
	_ = c.nc.Close()
	c.memory.Load().Close()
	c.answers.Close()
	c.polls.Close()
	c.relay.close()
	c.recycle()
}

// recycle ends the session and returns the buffers, when no goroutine of the
// connection runs.
func (c *conn) recycle() {
	c.session.Close()
	c.br.Reset(nil)
	c.bw.Reset(nil)
	c.s.readers.Put(c.br)
	c.s.writers.Put(c.bw)
}
