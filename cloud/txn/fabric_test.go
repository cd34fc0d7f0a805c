//go:build weirtest

package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// A fabric is two shards, and one client that runs transactions over both: shard 0 has its
// transactional id and one partition, shard 1 another partition and a group. Everything
// that is sent between them is a message that a schedule delivers: at once, late, or more
// than once. A shard may get another owner at any time; the former one does not know it,
// and still answers what was sent to it, but its log takes nothing.

// variant is what the client does.
type variant struct {
	v2      bool // the epoch grows with each transaction
	crashes bool // when the outcome of a transaction is not known, another client begins
	txns    int
}

func (v variant) String() string { return fmt.Sprintf("v2 %v, crashes %v", v.v2, v.crashes) }

// message is on its way until it is delivered.
type message struct {
	key     string // orders those that were sent at the same time
	deliver func()
	round   int
}

type fabric struct {
	variant
	layout layout
	o      Options
	disks  []*durableLog

	mu      sync.Mutex
	owners  []*owner   // the current ones
	former  []*owner   // that were closed by nobody
	bag     []*message // guarded by mu
	late    []*message // copies, and messages that were held back
	round   int
	trace   []string
	client  *actor
	stopped chan struct{} // closed when the client has finished
}

func newFabric(v variant, m Mutations) (*fabric, error) {
	f := &fabric{variant: v, layout: newLayout(2), stopped: make(chan struct{})}
	f.o = Options{Shards: f, Mutations: m}
	for i := range 2 {
		d := newDurableLog(i)
		d.mutated = m != Mutations{}
		f.disks, f.owners = append(f.disks, d), append(f.owners, nil)
		if err := f.failover(i); err != nil {
			return nil, err
		}
	}
	f.client = &actor{f: f, truth: make(map[string]*attempt)}
	return f, nil
}

func (f *fabric) say(format string, a ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trace = append(f.trace, fmt.Sprintf(format, a...))
}

// failover gives a shard another owner.
func (f *fabric) failover(shard int) error {
	if old := f.owners[shard]; old != nil {
		old.lose()
		f.former = append(f.former, old)
	}
	x, err := newOwner(shard, f.disks[shard], f.o)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owners[shard] = x
	return err
}

func (f *fabric) close() error {
	var errs []error
	for _, x := range slices.Concat(f.former, f.owners) {
		errs = append(errs, x.close())
	}
	return errors.Join(errs...)
}

func (f *fabric) owner(shard uint32) *owner {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owners[shard]
}

// send puts a message on its way.
func (f *fabric) send(key string, deliver func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bag = append(f.bag, &message{key, deliver, f.round})
}

// call sends a question to the owner that a shard has now. The answer is a message, too.
func call[T any](ctx context.Context, f *fabric, shard uint32, key string, ask func(x *owner) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	x, answers := f.owner(shard), make(chan result, 1)
	f.send(key, func() {
		go func() {
			value, err := ask(x)
			f.send("answer to "+key, func() {
				select {
				case answers <- result{value, err}:
				default: // it was answered before
				}
			})
		}()
	})
	select {
	case r := <-answers:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

func (f *fabric) ShardOf(s weir.Slice) uint32 { return f.layout[s] }

func (f *fabric) Verify(ctx context.Context, p Part) (uint64, error) {
	return call(ctx, f, 0, "verify "+p.Group, func(x *owner) (uint64, error) {
		number, err := x.txns.Verify(context.Background(), p)
		f.say("verify %v %s: %d, %v", p.Producer, p.Group, number, err)
		return number, err
	})
}

func (f *fabric) End(ctx context.Context, shard uint32, d Decision) error {
	_, err := call(ctx, f, shard, fmt.Sprintf("end %d", d.Number), func(x *owner) (struct{}, error) {
		err := x.parts.End(context.Background(), d)
		f.say("end of %d in shard %d, commit %v: %v", d.Number, shard, d.Commit, err)
		return struct{}{}, err
	})
	return err
}

// attempt is a transaction as the client knows it.
type attempt struct {
	records []string
	acked   map[string]bool
	offset  int64 // that it has committed; 0: none
	outcome string
}

// actor is the client. It runs transactions one after the other.
type actor struct {
	f        *fabric
	producer Producer
	sequence [2]int32
	truth    map[string]*attempt // by record
	all      []*attempt
	err      error
}

const patience = 3 * time.Second // of the client, for an answer

var errDoubt = errors.New("a record or an offset was not acknowledged")

func (c *actor) run() {
	defer close(c.f.stopped)
	if c.err = c.begin(nil); c.err != nil {
		return
	}
	for i := range c.f.txns {
		if c.err = c.transaction(i); c.err != nil {
			return
		}
	}
}

// insist repeats a call of the coordinator until it is answered.
func (c *actor) insist(what string, ask func(x *Coordinator) error) error {
	for range 2000 {
		err := ask(c.f.owner(0).txns)
		if !errors.Is(err, ErrConcurrent) && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrClosed) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("stuck: %s", what)
}

// begin gets a producer.
func (c *actor) begin(expected *Producer) error {
	err := c.insist("init", func(x *Coordinator) (err error) {
		c.producer, err = x.InitProducerID(context.Background(), InitRequest{ID: id, Timeout: 15 * time.Minute, Expected: expected})
		return err
	})
	c.sequence = [2]int32{}
	c.f.say("client: producer %v, %v", c.producer, err)
	return err
}

// transaction commits every second transaction if nothing is in doubt.
func (c *actor) transaction(i int) error {
	a := &attempt{acked: make(map[string]bool)}
	c.all = append(c.all, a)
	begin := func(x *Coordinator) error {
		if c.f.v2 {
			return nil
		}
		return errors.Join(x.AddPartitions(context.Background(), id, c.producer, []state.Place{placeIn(0), placeIn(1)}), x.AddOffsets(context.Background(), id, c.producer, groupIn(1)))
	}
	if err := c.insist("add", begin); err != nil {
		return err
	}
	doubt := c.produce(i, a)
	commit := i%2 == 0 && doubt == nil
	c.f.say("client: transaction %d ends, commit %v", i, commit)
	if c.f.crashes {
		next, err := c.f.owner(0).txns.End(context.Background(), EndRequest{ID: id, Producer: c.producer, Commit: commit, Bump: c.f.v2})
		if err != nil {
			c.f.say("client: %v, another one begins", err)
			a.outcome = "unknown"
			return c.begin(nil)
		}
		return c.over(a, next, commit, doubt)
	}
	var next Producer
	err := c.insist("end", func(x *Coordinator) (err error) {
		next, err = x.End(context.Background(), EndRequest{ID: id, Producer: c.producer, Commit: commit, Bump: c.f.v2})
		return err
	})
	if !c.f.v2 && !commit && errors.Is(err, ErrInvalidState) {
		next, err = c.producer, nil // nothing has begun
	}
	if err != nil {
		return fmt.Errorf("end of transaction %d: %w", i, err)
	}
	return c.over(a, next, commit, doubt)
}

func (c *actor) over(a *attempt, next Producer, commit bool, doubt error) error {
	if a.outcome = "aborted"; commit {
		a.outcome = "committed"
	}
	before := c.producer
	if c.producer = next; next != before {
		c.sequence = [2]int32{}
	}
	if doubt != nil && !c.f.v2 {
		return c.begin(&before) // KIP-360: which sequences were taken is not known
	}
	return nil
}

// produce writes one record to each partition and a second one to that of shard 1, and
// commits an offset.
func (c *actor) produce(i int, a *attempt) error {
	for n, shard := range []int{0, 1, 1} {
		value := fmt.Sprintf("%d.%d", i, n)
		a.records = append(a.records, value)
		c.truth[value] = a
		p, sequence := c.producer, c.sequence[shard]
		c.sequence[shard]++
		if !c.try("record "+value, shard, true, func(x *owner) error { return c.append(x, p, sequence, value) }) {
			return errDoubt
		}
		a.acked[value] = true
	}
	if p, at := c.producer, int64(i+1); !c.try(fmt.Sprint("offset ", at), 1, c.f.v2, func(x *owner) error { return c.commit(x, p, at) }) {
		return errDoubt
	}
	a.offset = int64(i + 1)
	return nil
}

// try sends a request at most twice. If the request has neither a sequence number nor an
// epoch of its own transaction, it does not come late: as in Kafka, nothing tells it from
// one of the next transaction.
func (c *actor) try(what string, shard int, numbered bool, ask func(x *owner) error) bool {
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		var err error
		if numbered {
			_, err = call(ctx, c.f, uint32(shard), what, func(x *owner) (struct{}, error) { return struct{}{}, ask(x) })
		} else {
			err = ask(c.f.owner(uint32(shard)))
		}
		cancel()
		c.f.say("client: %s: %v", what, err)
		if err == nil {
			return true
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}

func (c *actor) append(x *owner, p Producer, sequence int32, value string) error {
	place, answer := placeIn(x.number), make(chan error, 1)
	pass := x.parts.Append
	if x.number == 0 {
		pass = x.txns.Append
	}
	pass(Appended{
		Append: commitlog.Append{Topic: place.Topic, Partition: place.Partition, Batch: recordtest.Transactional(p.ID, p.Epoch, sequence, value)}, ID: id, Implicit: c.f.v2,
	}, func(_ int64, err error) { answer <- err })
	return <-answer
}

func (c *actor) commit(x *owner, p Producer, at int64) error {
	r := offsetRequest(x.number, p, at, c.f.v2)
	_, err := x.parts.CommitOffsets(context.Background(), r)
	return err
}

// step does what a schedule chooses. The first choice is to deliver the oldest message.
func (f *fabric) step(choose func(n int) int) error {
	synctest.Wait()
	f.mu.Lock()
	slices.SortStableFunc(f.bag, func(a, b *message) int {
		if a.round != b.round {
			return a.round - b.round
		}
		return strings.Compare(a.key, b.key)
	})
	f.round++
	empty, n := len(f.bag) == 0, max(len(f.bag), 1)
	f.mu.Unlock()
	c := choose(3*n + len(f.late) + len(f.disks))
	at := c % n
	switch {
	case c < 3*n && empty:
		time.Sleep(50 * time.Millisecond)
	case c < n:
		f.take(at).deliver()
	case c < 2*n:
		m := f.take(at)
		f.late = append(f.late, m)
		f.say("a copy of it is on its way")
		m.deliver()
	case c < 3*n:
		f.late = append(f.late, f.take(at))
		f.say("it is held back")
	case c < 3*n+len(f.late):
		m := f.late[c-3*n]
		f.late = slices.Delete(f.late, c-3*n, c-3*n+1)
		f.say("late: %s", m.key)
		m.deliver()
	default:
		shard := c - 3*n - len(f.late)
		f.say("shard %d has another owner", shard)
		return f.failover(shard)
	}
	return nil
}

// take takes a message, which is to be delivered.
func (f *fabric) take(i int) *message {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.bag[i]
	f.bag = slices.Delete(f.bag, i, i+1)
	f.trace = append(f.trace, m.key)
	return m
}

// play runs the client under a schedule, and returns what is wrong afterwards.
func (f *fabric) play(choose func(n int) int) (wrong string, err error) {
	go f.client.run()
	for range 5000 {
		synctest.Wait()
		select {
		case <-f.stopped:
			return f.rest()
		default:
		}
		if err := f.step(choose); err != nil {
			return "", err
		}
	}
	return "STUCK: the client does not finish", nil
}

// rest delivers what is still on its way, in order, and judges.
func (f *fabric) rest() (wrong string, err error) {
	for quiet := 0; quiet < 100; quiet++ {
		synctest.Wait()
		f.mu.Lock()
		n := len(f.bag)
		f.mu.Unlock()
		if n > 0 {
			quiet = 0
			f.take(0).deliver()
		} else if len(f.late) > 0 {
			quiet = 0
			m := f.late[0]
			f.late = f.late[1:]
			f.say("late: %s", m.key)
			m.deliver()
		} else {
			time.Sleep(100 * time.Millisecond)
		}
	}
	if f.client.err != nil {
		return "STUCK: " + f.client.err.Error(), nil
	}
	return f.judge(), nil
}

// visible returns the records of both partitions that readers of committed records see,
// and those that are in an open transaction for ever.
func (f *fabric) visible() (seen map[string]int, hanging []string) {
	seen = make(map[string]int)
	for shard := range f.disks {
		open := make(map[int64][]string)
		for _, x := range f.disks[shard].partition(placeIn(shard)).batches {
			of := x.producer.ID
			if !x.marker {
				open[of] = append(open[of], x.value)
				continue
			}
			for _, value := range open[of] {
				if x.commit {
					seen[value]++
				}
			}
			delete(open, of)
		}
		for _, values := range open {
			hanging = append(hanging, values...)
		}
	}
	return seen, hanging
}

func (f *fabric) judge() string {
	seen, hanging := f.visible()
	if len(hanging) > 0 {
		return fmt.Sprintf("HANGING: %v", hanging)
	}
	offset := int64(0)
	for i, a := range f.client.all {
		count := 0
		for _, value := range a.records {
			count += seen[value]
			switch {
			case seen[value] > 1:
				return fmt.Sprintf("DOUBLED: %s", value)
			case a.outcome == "committed" && seen[value] != 1:
				return fmt.Sprintf("LOST: %s of transaction %d", value, i)
			case a.outcome == "aborted" && seen[value] > 0:
				return fmt.Sprintf("DIRTY: %s of transaction %d", value, i)
			}
		}
		if a.outcome == "unknown" && count != 0 && count != len(a.records) && len(a.acked) == len(a.records) {
			return fmt.Sprintf("TORN: %d of %d records of transaction %d", count, len(a.records), i)
		}
		if count > 0 && a.offset > 0 {
			offset = a.offset
		}
	}
	at, pending := int64(0), false
	x := f.owners[1]
	if all, err := x.groups.Offsets(groupIn(1), nil); err == nil && len(all) > 0 {
		at = all[0].Offset
	}
	pending = len(x.parts.Pending(groupIn(1))) > 0
	if at != offset || pending {
		return fmt.Sprintf("OFFSET: %d, want %d, pending %v", at, offset, pending)
	}
	return ""
}
