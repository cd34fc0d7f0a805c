package model

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
)

// process is the life of a real node. It is the bucket of a journal: each call
// waits until the test lets it through. It is the journal's state, too.
type process struct {
	t       *testing.T
	disk    *mem.Bucket
	cancel  context.CancelFunc
	done    chan struct{}     // closed when Open or Replay has returned
	objects map[string][]byte // by key: the bytes that it tried to create; written while the test waits
	saving  position          // of the checkpoint that is being written
	saved   chan error        // the result of that
	journal *journal.Journal  // after done
	err     error             // after done

	reader bool // a replay

	mu      sync.Mutex
	looking bool     // guarded by mu; it looks for objects that show that a slot is missing
	listed  bool     // guarded by mu; it has just listed the checkpoints
	held    []*call  // guarded by mu; the calls that wait
	log     []string // guarded by mu; the entries that were restored and applied
}

type call struct {
	verb, key string
	keys      []string // of a Delete
	pass      chan struct{}
}

// start begins a process: a claimant or a reader.
func start(r *rig) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{t: r.t, disk: r.disk, cancel: cancel, done: make(chan struct{}), objects: r.sent, saved: make(chan error, 1)}
	o := journal.Options{Bucket: p, Shard: shard, Node: "real", Depth: r.w.depth, Window: 1}
	if r.w.yields {
		o.Level = 2
	}
	p.reader = r.real >= r.w.nodes
	go func() {
		defer close(p.done)
		if !p.reader {
			p.journal, p.err = journal.Open(ctx, o, p)
		} else {
			_, p.err = journal.Replay(ctx, o, p)
		}
	}()
	synctest.Wait()
	return p
}

// find removes a call from those that wait, and returns it, or nil if it is not there.
func (p *process) find(verb, key string) *call {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.held, func(c *call) bool { return c.verb == verb && strings.HasPrefix(c.key, key) })
	if i < 0 {
		return nil
	}
	c := p.held[i]
	p.held = slices.Delete(p.held, i, i+1)
	return c
}

// pass lets a call through. The call must be there, now or after a pause.
func (p *process) pass(verb, key string) *call {
	c := p.find(verb, key)
	if c == nil {
		time.Sleep(time.Second)
		synctest.Wait()
		c = p.find(verb, key)
	}
	if c == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		var held []string
		for _, c := range p.held {
			held = append(held, c.verb+" "+c.key)
		}
		p.t.Errorf("no %s %s, but %q", verb, key, held)
		return &call{}
	}
	close(c.pass)
	synctest.Wait()
	return c
}

// result returns the error of Open or Replay, if it has returned.
func (p *process) result() (error, bool) {
	select {
	case <-p.done:
		return p.err, true
	default:
		return nil, false
	}
}

// owner checks that Open has returned an owner.
func (p *process) owner(a action) {
	if err, ok := p.result(); !ok || err != nil || p.journal.Epoch() != uint64(a.epoch) {
		p.t.Errorf("opened: %v, error %v", ok, err)
	}
}

func positionOf(p position) journal.Position {
	return journal.Position{Epoch: uint64(p.epoch()), Slot: uint64(p.slot())}
}

// write writes one entry, which must get the given slot.
func (p *process) write(pos position) {
	got, err := p.journal.Write([]journal.Entry{{Kind: kind, Body: body(pos)}})
	if err != nil || got != positionOf(pos) {
		p.t.Errorf("written to %v, error %v, not to %v", got, err, positionOf(pos))
	}
	synctest.Wait()
}

// expect lets the owner go on under the claim with that nonce.
func (p *process) expect(nonce [16]byte) {
	if err := p.journal.Expect(context.Background(), nonce); err != nil {
		p.t.Errorf("expect: %v", err)
	}
}

// yield begins to end the epoch.
func (p *process) yield() {
	go func() { _, _ = p.journal.Yield(context.Background()) }()
	synctest.Wait()
}

// confirm lets the owner ask whether it still owns the shard, which it must be told: there
// is one higher claim, and no SEAL from first to last.
func (p *process) confirm(first, last position) {
	done := make(chan error, 1)
	go func() { done <- p.journal.Confirm(context.Background()) }()
	synctest.Wait()
	p.pass("GET", claimKey(first.epoch()+1))
	for pos := first; pos <= last; pos++ {
		p.pass("GET", slotKey(pos))
	}
	p.pass("GET", claimKey(first.epoch()+2))
	if err := <-done; err != nil {
		p.t.Errorf("confirm: %v", err)
	}
}

// save begins to write a checkpoint.
func (p *process) save(pos position) {
	p.saving = pos
	p.mu.Lock()
	state := stateBody(p.log)
	p.mu.Unlock()
	go func() { p.saved <- p.journal.Checkpoint(context.Background(), positionOf(pos), state) }()
	synctest.Wait()
}

// deleteSaves ends the writing of a checkpoint that has become durable. Older ones may
// be deleted only if there is no claim above that of the owner.
func (p *process) deleteSaves(pos position, newest int) {
	if p.find0("GET", claimPrefix) {
		p.pass("GET", claimKey(pos.epoch()+1))
		if p.find0("DELETE", checkpointPrefix) {
			for _, key := range p.pass("DELETE", checkpointPrefix).keys {
				if newest > pos.epoch() || key >= saveKey(pos) {
					p.t.Errorf("%s is deleted for checkpoint %v, the newest claim being %d", key, positionOf(pos), newest)
				}
			}
		}
	}
	select {
	case err := <-p.saved:
		p.saving = 0
		if err != nil {
			p.t.Errorf("checkpoint: %v", err)
		}
	default:
		p.t.Error("the checkpoint is durable, and goes on")
	}
}

// truncate deletes the slots before a checkpoint, except those that are kept, and returns
// the deleted ones. It calls ready before it deletes a slot.
func (p *process) truncate(pos position, keep func(journal.Position) bool, ready func()) (gone []position) {
	return p.deletes(pos, ready, func() error {
		return p.journal.Truncate(context.Background(), journal.Position{}, positionOf(pos), keep)
	})
}

// remove deletes slots before a checkpoint, and returns what was deleted.
func (p *process) remove(pos position, slots []position, ready func()) (gone []position) {
	var all []journal.Position
	for _, slot := range slots {
		all = append(all, positionOf(slot))
	}
	return p.deletes(pos, ready, func() error { return p.journal.Remove(context.Background(), all) })
}

// deletes lets through the calls of do, which deletes slots.
func (p *process) deletes(pos position, ready func(), do func() error) (gone []position) {
	go func() { p.saved <- do() }()
	synctest.Wait()
	if p.find0("GET", claimPrefix) { // there still are older checkpoints
		p.pass("GET", claimKey(pos.epoch()+1))
	}
	if p.find0("DELETE", checkpointPrefix) {
		p.pass("DELETE", checkpointPrefix)
	}
	if p.find0("CREATE", tombstonePrefix) {
		p.pass("CREATE", tombstonePrefix)
	}
	for p.find0("GET", logPrefix) { // whether there is a SEAL
		p.pass("GET", logPrefix)
	}
	if p.find0("DELETE", "") {
		ready()
	}
	for p.find0("DELETE", "") {
		for _, key := range p.pass("DELETE", "").keys {
			var s, e, slot int
			if _, err := fmt.Sscanf(key, "%d/log/%d/%d", &s, &e, &slot); err != nil {
				p.t.Errorf("%s is deleted: %v", key, err)
			}
			gone = append(gone, at(e, slot))
		}
	}
	if err := <-p.saved; err != nil {
		p.t.Errorf("delete slots: %v", err)
	}
	return gone
}

// find0 reports whether a call is waiting.
func (p *process) find0(verb, key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.held, func(c *call) bool { return c.verb == verb && strings.HasPrefix(c.key, key) })
}

// applied checks that exactly the log up to end was restored and applied.
func (p *process) applied(v view, end position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if want := logOf(v, end); !slices.Equal(p.log, want) {
		p.t.Errorf("applied was %q, not %q", p.log, want)
	}
}

// kill ends the process: no more of its calls reach the bucket.
func (p *process) kill() {
	p.cancel()
	<-p.done
	if p.journal != nil {
		_ = p.journal.Close() // gives up after ten seconds, in which no Create takes effect
	}
	if p.saving != 0 {
		<-p.saved
	}
}

// Apply implements journal.State.
func (p *process) Apply(_ journal.Position, entries []journal.Entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range entries {
		p.log = append(p.log, string(e.Body))
	}
	return nil
}

// Restore implements journal.State.
func (p *process) Restore(_ journal.Position, state []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = strings.Fields(string(state))
	return nil
}

// wait holds a call until it may go on to the bucket.
func (p *process) wait(ctx context.Context, c *call) error {
	c.pass = make(chan struct{})
	p.mu.Lock()
	p.held = append(p.held, c)
	p.mu.Unlock()
	select {
	case <-c.pass:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", storage.ErrUnknown, ctx.Err())
	}
}

// looks reports whether p gets a slot while it looks for objects that show that one is
// missing. Other calls end that.
func (p *process) looks(slot bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looking = p.looking && slot
	return p.looking
}

// doubts reports whether p gets a claim because of a checkpoint that it has just
// listed, and may have read, to see whether it is missing. Other calls end that.
func (p *process) doubts(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	doubts := p.listed && strings.HasPrefix(key, claimPrefix)
	p.listed = p.listed && strings.HasPrefix(key, checkpointPrefix)
	return doubts
}

// Create implements storage.Bucket.
func (p *process) Create(ctx context.Context, key string, object []byte) error {
	p.mu.Lock()
	p.looking, p.listed = false, false
	p.objects[key] = object
	p.mu.Unlock()
	if err := p.wait(ctx, &call{verb: "CREATE", key: key}); err != nil {
		return err
	}
	return p.disk.Create(ctx, key, object)
}

// Get implements storage.Bucket.
func (p *process) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if p.looks(strings.HasPrefix(key, logPrefix)) || p.doubts(key) {
		return p.disk.Get(ctx, key, off, n)
	}
	if err := p.wait(ctx, &call{verb: "GET", key: key}); err != nil {
		return nil, err
	}
	return p.disk.Get(ctx, key, off, n)
}

// List implements storage.Bucket.
func (p *process) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	// The search for lost objects finds none here and changes nothing: the model
	// has no step for it.
	if strings.HasPrefix(prefix, logPrefix) || prefix == closingPrefix || prefix == tombstonePrefix && !p.reader {
		p.mu.Lock()
		if prefix != closingPrefix { // it lists both at once
			p.looking = len(prefix) > len(logPrefix) && strings.HasPrefix(prefix, logPrefix)
		}
		p.mu.Unlock()
		return p.disk.List(ctx, prefix, after, max)
	}
	if err := p.wait(ctx, &call{verb: "LIST", key: prefix}); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.listed = prefix == checkpointPrefix
	p.mu.Unlock()
	return p.disk.List(ctx, prefix, after, max)
}

// Delete implements storage.Bucket.
func (p *process) Delete(ctx context.Context, keys ...string) error {
	if err := p.wait(ctx, &call{verb: "DELETE", key: keys[0], keys: keys}); err != nil {
		return err
	}
	return p.disk.Delete(ctx, keys...)
}

var _ storage.Bucket = (*process)(nil)
var _ journal.State = (*process)(nil)
