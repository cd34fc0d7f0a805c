package commitlog

import (
	"context"
	"sync"
	"time"
)

// requestOverhead is what a request in line costs besides its bytes.
const requestOverhead = 256

// request is one change on its way into a slot. The committer calls exactly one
// of the two functions.
type request struct {
	size   int
	admit  func(*builder) // decides, with Log.mu held for reading
	refuse func(error)    // the log ended first
}

// line is where requests wait for the next slot.
type line struct {
	limit int           // bytes that may wait
	wake  chan struct{} // to the committer, capacity 1

	mu       sync.Mutex
	room     sync.Cond // on mu: bytes fell, or err was set
	requests []request // guarded by mu
	bytes    int       // guarded by mu
	since    time.Time // guarded by mu: when the oldest request came
	err      error     // guarded by mu: why there will be no more
}

func newLine(limit int) *line {
	q := &line{limit: limit, wake: make(chan struct{}, 1)}
	q.room.L = &q.mu
	return q
}

// push puts a request in line, and waits while the line is full. On an error
// nothing of the request is called.
func (q *line) push(r request) error {
	r.size += requestOverhead
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.err == nil && q.bytes > 0 && q.bytes+r.size > q.limit {
		q.room.Wait()
	}
	if q.err != nil {
		return q.err
	}
	if len(q.requests) == 0 {
		q.since = time.Now()
	}
	q.requests = append(q.requests, r)
	q.bytes += r.size
	q.nudge()
	return nil
}

// nudge makes the committer look.
func (q *line) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// state is what waits, and since when.
func (q *line) state() (bytes int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes, q.since
}

// pull takes the oldest requests, as many as fit, and at least one.
func (q *line) pull(limit int) []request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.requests) && (n == 0 || size+q.requests[n].size <= limit) {
		size += q.requests[n].size
		n++
	}
	taken := q.requests[:n:n]
	if n == len(q.requests) {
		q.requests = nil
	} else {
		q.requests = q.requests[n:]
	}
	q.bytes -= size
	q.room.Broadcast()
	return taken
}

// close ends the line for the reason err, unless it has ended, and refuses who
// stands in it.
func (q *line) close(err error) {
	q.mu.Lock()
	if q.err == nil {
		q.err = err
	}
	refused := q.requests
	q.requests, q.bytes = nil, 0
	q.room.Broadcast()
	q.mu.Unlock()
	for _, r := range refused {
		r.refuse(err)
	}
}

// ask puts a question into the line and waits for its answer, which comes when
// everything admitted before it, and the entry that it put, if any, is applied.
// When ctx ends first, what was asked may still happen.
func ask[T any](ctx context.Context, l *Log, size int, admit func(*builder) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	err := l.line.push(request{
		size: size,
		admit: func(b *builder) {
			value, err := admit(b)
			b.slot.answers = append(b.slot.answers, func(lost error) {
				if lost != nil {
					err = lost
				}
				answers <- answer{value, err}
			})
		},
		refuse: func(err error) { answers <- answer{err: err} },
	})
	var none T
	if err != nil {
		return none, err
	}
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
