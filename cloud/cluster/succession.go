package cluster

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Step is what the owner of a shard asks its successor to do: see handover.go.
type Step string

// The steps of a hand-over, in their order.
const (
	StepFollow Step = "follow" // read the log along, up to near its end
	StepClaim  Step = "claim"  // claim the next epoch, under which the owner goes on, and read on
	StepTake   Step = "take"   // serve the shard: the owner has ended its epoch
)

// Succession is a step of a hand-over. An owner repeats it until it is done. One that gives
// up says nothing: its successor notices that it does not ask any more.
type Succession struct {
	Shard uint32
	Epoch uint64   // of the owner
	Nonce [16]byte // of the successor's claim; drawn for this hand-over, so it identifies that
	Step  Step
}

// succession is a Succession on the wire.
type succession struct {
	Shard uint32 `json:"shard"`
	Epoch uint64 `json:"epoch"`
	Nonce string `json:"nonce"`
	Step  Step   `json:"step"`
}

// succeeded is the answer.
type succeeded struct {
	Done     bool   `json:"done,omitempty"`
	Declined string `json:"declined,omitempty"` // why this node is not the successor, or not any more
}

// MaxSuccession bounds an encoded Succession, and the answer, in bytes.
const MaxSuccession = 4 << 10

// Errors of a Succession.
var (
	// ErrUnsupported means that the other node is of a version that does not know
	// Successions: the shard is closed before it is offered.
	ErrUnsupported = errors.New("the node's version does not follow a log before it takes over")

	// ErrDeclined means that the other node does not take the shard now.
	ErrDeclined = errors.New("the node does not take the shard")

	errSuccession = errors.New("step of a hand-over cannot be read")
	errGivenUp    = errors.New("the owner has not asked for a while")
	errOwns       = errors.New("this node serves the shard, or takes it over")
)

// Encode returns the step as it is sent.
func (q Succession) Encode() ([]byte, error) {
	return json.Marshal(succession{q.Shard, q.Epoch, hex.EncodeToString(q.Nonce[:]), q.Step})
}

// readSuccession decodes a step.
func readSuccession(p []byte) (q Succession, err error) {
	var c succession
	if err := json.Unmarshal(p, &c); err != nil {
		return q, fmt.Errorf("%w: %w", errSuccession, err)
	}
	nonce, err := hex.DecodeString(c.Nonce)
	switch {
	case err != nil || len(nonce) != len(q.Nonce) || [16]byte(nonce) == [16]byte{}:
		return q, fmt.Errorf("%w: its nonce is %q", errSuccession, c.Nonce)
	case c.Epoch == 0:
		return q, fmt.Errorf("%w: it has no epoch", errSuccession)
	case c.Step != StepFollow && c.Step != StepClaim && c.Step != StepTake:
		return q, fmt.Errorf("%w: step %q is not known", errSuccession, c.Step)
	}
	return Succession{c.Shard, c.Epoch, [16]byte(nonce), c.Step}, nil
}

// Succeeds answers a step that another node, the owner of a shard, has sent. It waits for
// a moment until the step is done. An error means that the step cannot be read.
func (m *Manager) Succeeds(ctx context.Context, body []byte) (answer []byte, err error) {
	q, err := readSuccession(body)
	if err != nil {
		return nil, err
	}
	var a succeeded
	if a.Done, err = m.succeed(ctx, q); err != nil {
		a.Declined = err.Error()
	}
	return json.Marshal(a)
}

// ReadSucceeded returns what the answer to a step says. Errors: ErrDeclined.
func ReadSucceeded(answer []byte) (done bool, err error) {
	var a succeeded
	if err := json.Unmarshal(answer, &a); err != nil {
		return false, fmt.Errorf("%w: %w", errSuccession, err)
	}
	if a.Declined != "" {
		return false, fmt.Errorf("%w: %s", ErrDeclined, a.Declined)
	}
	return a.Done, nil
}

// Candidate is this node on its way to own a shard whose owner hands it over. One goroutine
// at a time uses it. Errors mean that it must be closed.
type Candidate interface {
	// Follow applies what was appended since the last call.
	Follow(ctx context.Context) error

	// Claim claims exactly this epoch. It stops no owner that expects the nonce.
	Claim(ctx context.Context, epoch uint64, nonce [16]byte) error

	// Close discards the candidate, unless it was given to Lead.
	Close()
}

// candidacy is a Candidate and how far it is.
type candidacy struct {
	s      *supervisor
	q      Succession // but for the step
	owner  string     // name of the node that hands the shard over
	cancel context.CancelFunc
	kick   chan struct{} // a token: the owner has asked for something else

	mu      sync.Mutex    // guards what follows
	step    Step          // the last one that the owner has asked for
	asked   time.Time     // when it did that last
	near    bool          // the end of the log is near
	claimed bool          // it has claimed, and read on
	given   bool          // the supervisor has the candidate, or had it
	err     error         // why it has ended
	changed chan struct{} // closed when one of these changes
}

// followRounds is how often a candidate reads along at least, before it says that it is
// near the end of a log that grows as fast as it reads.
const followRounds = 8

// succeed is Succeeds of a step that was read.
func (m *Manager) succeed(ctx context.Context, q Succession) (done bool, err error) {
	m.mu.Lock()
	c, err := m.candidacy(q)
	m.mu.Unlock()
	if err != nil {
		return false, err
	}
	c.ask(q.Step)
	timer := time.NewTimer(m.o.Takeover / 4)
	defer timer.Stop()
	for {
		changed, serves := c.watch(), m.serving()
		if done, err = c.done(q.Step); done || err != nil {
			return done, err
		}
		select {
		case <-changed:
		case <-serves:
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, nil
		}
	}
}

// candidacy returns the one that a step is for. The first step begins one, if this node can
// take the shard. m.mu is held.
func (m *Manager) candidacy(q Succession) (*candidacy, error) {
	if !m.running {
		return nil, errors.New("it has just started, or stops")
	}
	if len(m.shards) > 0 {
		m.growLocked(m.ctx) // the shard may be so new that it has no supervisor yet
	}
	if int64(q.Shard) >= int64(len(m.shards)) || m.o.Prepare == nil {
		return nil, fmt.Errorf("shard %d is not known", q.Shard)
	}
	s := m.shards[q.Shard]
	switch {
	case s.candidacy != nil && s.candidacy.q.Nonce == q.Nonce:
		return s.candidacy, nil
	case q.Step != StepFollow:
		return nil, errors.New("it does not read the log along any more")
	case !s.accepts(q.Epoch):
		return nil, errors.New("it drains, cannot lead now, or has to do with the shard")
	}
	s.endCandidacy()
	ctx, cancel := context.WithCancel(m.ctx)
	c := &candidacy{s: s, q: q, owner: s.owner, cancel: cancel, kick: make(chan struct{}, 1), asked: time.Now(), step: StepFollow, changed: make(chan struct{})}
	s.candidacy, s.state, s.epoch = c, Preparing, q.Epoch+1
	m.wg.Go(func() { c.run(ctx) })
	return c, nil
}

// ask notes a step that the owner has asked for.
func (c *candidacy) ask(step Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = time.Now()
	if c.step == step || c.step == StepTake {
		return
	}
	c.step = step
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// watch returns a channel that is closed when something changes.
func (c *candidacy) watch() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// set changes something.
func (c *candidacy) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// done reports whether a step is done, or returns why it never will be.
func (c *candidacy) done(step Step) (bool, error) {
	c.mu.Lock()
	near, claimed, given, err := c.near, c.claimed, c.given, c.err
	c.mu.Unlock()
	switch {
	case err != nil:
		return false, err
	case step == StepFollow:
		return near, nil
	case step == StepClaim:
		return claimed, nil
	case !given:
		return false, nil
	}
	state, at := c.s.m.o.Progress(c.s.shard)
	return state == Owning && at.Epoch == c.q.Epoch+1, nil
}

// run reads along and claims, as the owner asks, until it has given the candidate to the
// supervisor, the owner does not ask any more, or ctx ends.
func (c *candidacy) run(ctx context.Context) {
	defer c.cancel()
	s := c.s
	err := c.stand(ctx)
	if err == nil {
		return
	}
	c.set(func() { c.err = err })
	if !s.resign(c) || ctx.Err() != nil {
		return
	}
	if errors.Is(err, errGivenUp) {
		s.log.Info("the owner does not hand the shard over after all", "err", err)
		return
	}
	s.log.Error("this node cannot follow the log of a shard that is handed over", "err", err, "next_try", s.fails())
}

// stand is run's work. nil means that the supervisor has the candidate.
func (c *candidacy) stand(ctx context.Context) error {
	m := c.s.m
	if !m.fitness.check(ctx) {
		return errors.New("its own listeners do not answer")
	}
	self := c.s.past.claimant(m.node())
	self.Handed, self.Move = true, Move{HandedOver, c.owner}
	candidate, err := m.o.Prepare(ctx, c.s.shard, self)
	if err != nil {
		return err
	}
	if err = c.follow(ctx, candidate); err == nil {
		// A crash from here on leaves a claim without an owner.
		err = candidate.Claim(ctx, c.q.Epoch+1, c.q.Nonce)
	}
	if err == nil {
		err = candidate.Follow(ctx)
	}
	if err == nil {
		c.set(func() { c.claimed = true })
		err = c.awaitTake(ctx, candidate)
	}
	if err == nil && !c.give(candidate) {
		err = errOwns
	}
	if err != nil {
		candidate.Close()
	}
	return err
}

// follow reads along until this node is to claim.
func (c *candidacy) follow(ctx context.Context, candidate Candidate) error {
	takeover := c.s.m.o.Takeover
	for rounds := 1; ; rounds++ {
		began := time.Now()
		if err := candidate.Follow(ctx); err != nil {
			return err
		}
		if time.Since(began) < takeover/8 || rounds >= followRounds {
			c.set(func() { c.near = true })
		}
		switch step, silent := c.pause(ctx); {
		case ctx.Err() != nil:
			return ctx.Err()
		case step != StepFollow:
			return nil
		case silent > takeover:
			return errGivenUp
		}
	}
}

// awaitTake waits until this node is to take the shard. An owner that has fallen silent may
// have ended its epoch; one that goes on claims another one meanwhile, and then this node
// takes in vain.
func (c *candidacy) awaitTake(ctx context.Context, candidate Candidate) error {
	takeover := c.s.m.o.Takeover
	for {
		switch step, silent := c.pause(ctx); {
		case ctx.Err() != nil:
			return ctx.Err()
		case step == StepTake:
			return nil
		case silent > takeover*3/2 && !neverTakes(c.s.m.o.mutations):
			c.s.log.Warn("the owner that hands the shard over is silent: taking it", "epoch", c.q.Epoch, "silent", silent.Round(time.Millisecond))
			return nil
		}
		if err := candidate.Follow(ctx); err != nil {
			return err
		}
	}
}

// pause waits for a moment, until the owner asks for something else, or until ctx ends. It
// returns what the owner has asked for last, and how long ago.
func (c *candidacy) pause(ctx context.Context) (step Step, silent time.Duration) {
	timer := time.NewTimer(c.s.m.o.Takeover / 20)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.kick:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.step, time.Since(c.asked)
}

// give lets the supervisor lead with the candidate. It reports false if this node has to do
// with the shard in another way by now.
func (c *candidacy) give(candidate Candidate) bool {
	s := c.s
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.candidacy != c || s.state != Preparing {
		return false
	}
	s.offered, s.ready, s.state = c.q.Epoch, candidate, Recovering
	c.set(func() { c.given = true })
	s.wake()
	return true
}

// resign ends a candidacy that has failed. It reports false if something else has ended it.
func (s *supervisor) resign(c *candidacy) bool {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.candidacy != c {
		return false
	}
	s.candidacy = nil
	if s.state == Preparing {
		s.state, s.epoch = "", 0
	}
	return true
}

// endCandidacy ends what this node has begun as a successor. Manager.mu is held.
func (s *supervisor) endCandidacy() {
	if s.candidacy != nil {
		s.candidacy.cancel()
		s.candidacy = nil
	}
	if s.ready != nil {
		s.m.wg.Go(s.ready.Close)
		s.ready = nil
	}
}

// candidate returns what to lead the epoch with, nil if the log is to be opened. It ends
// any other candidacy.
func (s *supervisor) candidate(epoch uint64) (c Candidate) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.ready != nil && s.offered+1 == epoch {
		c, s.ready = s.ready, nil
		return c // the candidacy stays: the owner asks whether this node serves the shard
	}
	s.endCandidacy()
	return nil
}

// Serves tells the manager that this node begins to serve a shard: Progress says so. The
// other members learn of it at once.
func (m *Manager) Serves() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.served != nil {
		close(m.served)
		m.served = nil
	}
	for _, other := range m.members {
		select {
		case other.news <- struct{}{}:
		default:
		}
	}
}

// serving returns a channel that is closed when this node begins to serve a shard.
func (m *Manager) serving() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.served == nil {
		m.served = make(chan struct{})
	}
	return m.served
}
