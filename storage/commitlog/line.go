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
	urgent bool           // of the upkeep: it is not held back when writers are slowed down
	admit  func(*builder) // decides, with Log.mu held for reading
	refuse func(error)    // the log ended first
}

// line is where requests wait for the next slot.
type line struct {
	limit int           // bytes that may wait
	wake  chan struct{} // to the committer, capacity 1

	mu       sync.Mutex
	room     sync.Cond // on mu: bytes fell, err was set, or the ctx of one that waits ended
	urgent   []request // guarded by mu
	requests []request // guarded by mu; the others
	bytes    int       // guarded by mu; of requests
	since    time.Time // guarded by mu: when the oldest request came
	err      error     // guarded by mu: why there will be no more
}

func newLine(limit int) *line {
	q := &line{limit: limit, wake: make(chan struct{}, 1)}
	q.room.L = &q.mu
	return q
}

// push puts a request in line, and waits while the line is full, until ctx ends; an urgent
// one does not, and goes first. On an error nothing of the request is called.
func (q *line) push(ctx context.Context, r request) error {
	r.size += requestOverhead
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.await(ctx, r); err != nil {
		return err
	}
	if len(q.requests)+len(q.urgent) == 0 {
		q.since = time.Now()
	}
	if r.urgent {
		q.urgent = append(q.urgent, r)
	} else {
		q.requests = append(q.requests, r)
		q.bytes += r.size
	}
	q.nudge()
	return nil
}

// await waits until there is room for a request, with mu held. It returns an error if the
// line or ctx ended first.
func (q *line) await(ctx context.Context, r request) error {
	full := func() bool { return q.err == nil && !r.urgent && q.bytes > 0 && q.bytes+r.size > q.limit }
	if full() && ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.room.Broadcast()
		})()
	}
	for full() {
		if err := ctx.Err(); err != nil {
			return err
		}
		q.room.Wait()
	}
	return q.err
}

// nudge makes the committer look.
func (q *line) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// state reports whether an urgent request waits, and returns the bytes of the others
// and since when they wait.
func (q *line) state() (urgent bool, bytes int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.urgent) > 0, q.bytes, q.since
}

// pull takes the oldest requests, urgent ones first, as many as fit and at least one.
// If held, it takes urgent ones only.
func (q *line) pull(limit int, held bool) []request {
	q.mu.Lock()
	defer q.mu.Unlock()
	first, room := fitting(q.urgent, limit, true)
	if q.urgent = q.urgent[len(first):]; len(q.urgent) > 0 || held {
		return first
	}
	then, rest := fitting(q.requests, room, len(first) == 0)
	if q.requests = q.requests[len(then):]; len(q.requests) == 0 {
		q.requests = nil
	}
	q.bytes -= room - rest
	q.room.Broadcast()
	return append(first, then...)
}

// fitting returns the first requests that fit into room bytes, at least one if some is
// set, and the room that is left.
func fitting(requests []request, room int, some bool) ([]request, int) {
	n := 0
	for n < len(requests) && (n == 0 && some || requests[n].size <= room) {
		room -= requests[n].size
		n++
	}
	return requests[:n:n], room
}

// close ends the line with the reason err, unless it has ended, and refuses the
// requests in it.
func (q *line) close(err error) {
	q.mu.Lock()
	if q.err == nil {
		q.err = err
	}
	refused := append(q.urgent, q.requests...)
	q.urgent, q.requests, q.bytes = nil, nil, 0
	q.room.Broadcast()
	q.mu.Unlock()
	for _, r := range refused {
		r.refuse(err)
	}
}

// ask puts a request in line and waits for its answer, which comes when everything
// admitted before it, and its own entry if it puts one, is applied. When ctx ends
// first, the request may still take effect, unless it was not in line yet.
func ask[T any](ctx context.Context, l *Log, size int, admit func(*builder) (T, error)) (T, error) {
	return enqueue(ctx, l, request{size: size}, admit)
}

// enqueue is ask for a request of which size and urgent are set.
func enqueue[T any](ctx context.Context, l *Log, r request, admit func(*builder) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	r.admit = func(b *builder) {
		value, err := admit(b)
		b.slot.answers = append(b.slot.answers, func(lost error) {
			if lost != nil {
				err = lost
			}
			answers <- answer{value, err}
		})
	}
	r.refuse = func(err error) { answers <- answer{err: err} }
	var none T
	if err := l.line.push(ctx, r); err != nil {
		return none, err
	}
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
