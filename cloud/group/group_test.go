package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/weirmq/weir/storage/commitlog/state"
)

// journal is a machine.Log that applies at once, or when it is let go.
type journal struct {
	c *Coordinator

	mu    sync.Mutex
	gate  chan struct{} // not nil: proposals wait for it
	fail  error
	kinds []uint16
	bodys [][]byte

	topics []state.Topic // that a consumer group can read
	level  int
}

func (j *journal) Propose(ctx context.Context, kind uint16, body []byte) error {
	j.mu.Lock()
	gate, fail := j.gate, j.fail
	j.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fail != nil {
		return fail
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.kinds, j.bodys = append(j.kinds, kind), append(j.bodys, body)
	return j.c.Apply(kind, body)
}

func (j *journal) hold(gate chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.gate = gate
}

type world struct {
	t *testing.T
	*Coordinator
	j *journal
}

// run runs a test with a coordinator that serves, in a bubble of fake time.
func run(t *testing.T, o Options, test func(t *testing.T, w world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Log = slog.New(slog.DiscardHandler)
		c := New(o)
		j := &journal{c: c}
		c.Serve(j)
		test(t, world{t, c, j})
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

const name = "readers"

func ask(member string) JoinRequest {
	return JoinRequest{
		Group:        name,
		Member:       member,
		ClientID:     "test",
		Session:      10 * time.Second,
		Rebalance:    30 * time.Second,
		ProtocolType: "consumer",
		Protocols:    []Protocol{{"range", []byte("m:" + member)}},
		RequireID:    true,
		SkipLeader:   true,
	}
}

// joining is a Join in its own goroutine.
type joining struct {
	JoinResponse
	err  error
	done atomic.Bool // set last
}

func (w world) join(r JoinRequest) *joining {
	a := &joining{}
	go func() {
		a.JoinResponse, a.err = w.Join(w.t.Context(), r)
		a.done.Store(true)
	}()
	return a
}

type syncing struct {
	SyncResponse
	err  error
	done atomic.Bool // set last
}

func (w world) sync(g int32, member string, assignments map[string][]byte) *syncing {
	a := &syncing{}
	go func() {
		a.SyncResponse, a.err = w.Sync(w.t.Context(), SyncRequest{
			Group: name, Generation: g, Member: member, Protocol: "range", ProtocolType: "consumer", Assignments: assignments,
		})
		a.done.Store(true)
	}()
	return a
}

// id gets a member id.
func (w world) id() string {
	w.t.Helper()
	a, err := w.Join(w.t.Context(), ask(""))
	if !errors.Is(err, ErrMemberIDRequired) || a.Member == "" {
		w.t.Fatalf("first join = %+v, %v; want a member id", a, err)
	}
	return a.Member
}

func (w world) want(got, want error) {
	w.t.Helper()
	if !errors.Is(got, want) {
		w.t.Fatalf("error = %v, want %v", got, want)
	}
}

func (w world) state(want State, generation int32, members int) {
	w.t.Helper()
	d, err := w.Describe(name)
	if err != nil && want != Dead {
		w.t.Fatalf("describe: %v", err)
	}
	if d.State != want || d.Generation != generation || d.Members != members {
		w.t.Fatalf("group is %s, generation %d, %d members; want %s, %d, %d", d.State, d.Generation, d.Members, want, generation, members)
	}
}

// stable makes a stable group of n members and returns their ids, the leader's
// first, and the generation.
func (w world) stable(n int) ([]string, int32) {
	w.t.Helper()
	ids := make([]string, n)
	joins := make([]*joining, n)
	for i := range ids {
		ids[i] = w.id()
	}
	for i, id := range ids {
		joins[i] = w.join(ask(id))
		synctest.Wait()
	}
	time.Sleep(time.Second) // the initial delay; fake time
	synctest.Wait()
	generation := w.settle(joins)
	return ids, generation
}

// settle completes a rebalance of those that joined.
func (w world) settle(joins []*joining) int32 {
	w.t.Helper()
	assignments := map[string][]byte{}
	var leader *joining
	for _, j := range joins {
		if !j.done.Load() || j.err != nil {
			w.t.Fatalf("join: done %v, %v", j.done.Load(), j.err)
		}
		assignments[j.Member] = []byte("for " + j.Member)
		if j.Leader == j.Member {
			leader = j
		}
	}
	var syncs []*syncing
	for _, j := range joins {
		if j != leader {
			syncs = append(syncs, w.sync(j.Generation, j.Member, nil))
		}
	}
	synctest.Wait()
	for _, s := range syncs {
		if s.done.Load() {
			w.t.Fatalf("sync answered before the leader's: %+v", s)
		}
	}
	if len(leader.Members) != len(joins) {
		w.t.Fatalf("leader sees %d members, want %d", len(leader.Members), len(joins))
	}
	syncs = append(syncs, w.sync(leader.Generation, leader.Member, assignments))
	synctest.Wait()
	for _, s := range syncs {
		if !s.done.Load() || s.err != nil || !bytes.HasPrefix(s.Assignment, []byte("for ")) {
			w.t.Fatalf("sync = %+v", s)
		}
	}
	return leader.Generation
}

func TestFirstGeneration(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		ids, g := w.stable(3)
		w.state(Stable, 1, 3)
		for _, id := range ids {
			w.want(w.Heartbeat(name, g, Identity{Member: id}), nil)
		}
		d, _ := w.Describe(name)
		if d.Leader != ids[0] || d.Protocol != "range" || d.ProtocolType != "consumer" {
			t.Errorf("description = %+v", d)
		}
		if got := string(d.Details[1].Assignment); got != "for "+ids[1] {
			t.Errorf("assignment = %q", got)
		}
	})
}

func TestInitialDelay(t *testing.T) {
	run(t, Options{InitialDelay: 100 * time.Millisecond}, func(t *testing.T, w world) {
		start := time.Now()
		a := w.join(ask(w.id()))
		time.Sleep(80 * time.Millisecond)
		b := w.join(ask(w.id())) // prolongs it
		time.Sleep(60 * time.Millisecond)
		synctest.Wait()
		if a.done.Load() {
			t.Fatalf("answered after %v although somebody came", time.Since(start))
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		w.settle([]*joining{a, b})
		w.state(Stable, 1, 2)
	})
	run(t, Options{InitialDelay: -1}, func(t *testing.T, w world) {
		a := w.join(ask(w.id()))
		synctest.Wait()
		w.settle([]*joining{a})
	})
}

func TestRebalanceOnJoinAndLeave(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		ids, g := w.stable(2)
		fresh := w.join(ask(w.id()))
		synctest.Wait()
		w.want(w.Heartbeat(name, g, Identity{Member: ids[0]}), ErrRebalanceInProgress)
		a, b := w.join(ask(ids[0])), w.join(ask(ids[1]))
		synctest.Wait()
		g = w.settle([]*joining{a, b, fresh})
		w.state(Stable, 2, 3)

		errs, err := w.Leave(name, []Identity{{Member: ids[0]}, {Member: "nobody"}})
		w.want(err, nil)
		w.want(errs[0], nil)
		w.want(errs[1], ErrUnknownMember)
		w.want(w.Heartbeat(name, g, Identity{Member: ids[0]}), ErrUnknownMember)
		b, c := w.join(ask(ids[1])), w.join(ask(fresh.Member))
		synctest.Wait()
		w.settle([]*joining{b, c})
		w.state(Stable, 3, 2)
		if b.Leader != ids[1] {
			t.Errorf("leader = %s, want the next in order of arrival", b.Leader)
		}
		_, _ = w.Leave(name, []Identity{{Member: ids[1]}, {Member: fresh.Member}})
		w.state(Dead, 0, 0)
		if w.bytes != 0 {
			t.Errorf("%d bytes of nobody", w.bytes)
		}
	})
}

func TestSilentMemberExpires(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		ids, g := w.stable(2)
		for range 4 { // the second one says nothing for 12 s
			time.Sleep(3 * time.Second)
			if err := w.Heartbeat(name, g, Identity{Member: ids[0]}); errors.Is(err, ErrRebalanceInProgress) {
				break
			}
		}
		w.state(PreparingRebalance, 1, 1)
		a := w.join(ask(ids[0]))
		synctest.Wait()
		w.settle([]*joining{a})
		w.state(Stable, 2, 1)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		w.state(Dead, 0, 0)
	})
}

func TestRebalanceTimesOut(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		ids, _ := w.stable(2)
		fresh := w.join(ask(w.id()))
		a := w.join(ask(ids[0]))
		for range 10 { // the other one is alive but does not join
			time.Sleep(3 * time.Second)
			_ = w.Heartbeat(name, 1, Identity{Member: ids[1]})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		w.settle([]*joining{a, fresh})
		w.state(Stable, 2, 2)
		w.want(w.Heartbeat(name, 2, Identity{Member: ids[1]}), ErrUnknownMember)
	})
}

func TestMemberThatDoesNotSync(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		a, b := w.join(ask(w.id())), w.join(ask(w.id()))
		time.Sleep(time.Second)
		synctest.Wait()
		follower := a
		if a.Leader == a.Member {
			follower = b
		}
		s := w.sync(1, follower.Member, nil)
		leader := a.Leader
		for range 11 {
			time.Sleep(3 * time.Second)
			_ = w.Heartbeat(name, 1, Identity{Member: leader})
		}
		synctest.Wait()
		if !s.done.Load() || !errors.Is(s.err, ErrRebalanceInProgress) {
			t.Fatalf("sync = %+v, want a rebalance", s)
		}
		w.state(PreparingRebalance, 1, 1)
	})
}

func TestLeaderRejoinsAlone(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		ids, _ := w.stable(2)
		// A follower that says nothing new gets the generation it is in.
		b := w.join(ask(ids[1]))
		synctest.Wait()
		if !b.done.Load() || b.Generation != 1 || b.Members != nil {
			t.Fatalf("follower's join = %+v", b)
		}
		// The leader wants a rebalance: its topics may have changed.
		a := w.join(ask(ids[0]))
		synctest.Wait()
		if a.done.Load() {
			t.Fatalf("leader's join was answered: %+v", a)
		}
		w.state(PreparingRebalance, 1, 2)
		// A follower with new metadata does, too.
		r := ask(ids[1])
		r.Protocols[0].Metadata = []byte("other topics")
		b = w.join(r)
		synctest.Wait()
		w.settle([]*joining{a, b})
		w.state(Stable, 2, 2)
	})
}

func TestMissedAnswers(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		id := w.id()
		a := w.join(ask(id))
		time.Sleep(time.Second)
		synctest.Wait()
		again := w.join(ask(id)) // the answer was lost
		synctest.Wait()
		if !again.done.Load() || again.Generation != a.Generation || len(again.Members) != 1 {
			t.Fatalf("second join = %+v", again)
		}
		w.sync(1, id, map[string][]byte{id: []byte("x")})
		synctest.Wait()
		s := w.sync(1, id, nil) // and this one too
		synctest.Wait()
		if string(s.Assignment) != "x" {
			t.Fatalf("second sync = %+v", s)
		}
	})
}

func TestSecondJoinReplacesTheFirst(t *testing.T) {
	run(t, Options{InitialDelay: time.Second}, func(t *testing.T, w world) {
		id := w.id()
		a := w.join(ask(id))
		synctest.Wait()
		b := w.join(ask(id)) // on a new connection
		synctest.Wait()
		if !a.done.Load() || !errors.Is(a.err, ErrRebalanceInProgress) {
			t.Fatalf("first join = %+v", a)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		w.settle([]*joining{b})
	})
}

func TestClientGoesAwayWhileJoining(t *testing.T) {
	run(t, Options{InitialDelay: time.Minute}, func(t *testing.T, w world) {
		ctx, cancel := context.WithCancel(t.Context())
		r := ask("")
		r.RequireID = false
		var err error
		go func() { _, err = w.Join(ctx, r) }()
		synctest.Wait()
		w.state(PreparingRebalance, 0, 1)
		cancel()
		synctest.Wait()
		w.want(err, context.Canceled)
		w.state(PreparingRebalance, 0, 0) // no request could ever name that member
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		w.state(Dead, 0, 0)

		ctx, cancel = context.WithCancel(t.Context())
		id := w.id()
		go func() { _, err = w.Join(ctx, ask(id)) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		w.state(PreparingRebalance, 0, 1) // it has one session to come back
		time.Sleep(11 * time.Second)
		synctest.Wait()
		w.state(PreparingRebalance, 0, 0)
	})
}

func TestMemberIDsThatNobodyUses(t *testing.T) {
	run(t, Options{MaxMembers: 2}, func(t *testing.T, w world) {
		a, b := w.id(), w.id()
		_, err := w.Join(t.Context(), ask(""))
		w.want(err, ErrGroupFull)
		errs, _ := w.Leave(name, []Identity{{Member: a}})
		w.want(errs[0], nil)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		_, err = w.Join(t.Context(), ask(b))
		w.want(err, ErrUnknownMember)
		w.state(Dead, 0, 0)
	})
}

func TestBadJoins(t *testing.T) {
	change := func(f func(*JoinRequest)) JoinRequest { r := ask(""); f(&r); return r }
	for what, test := range map[string]struct {
		r    JoinRequest
		want error
	}{
		"no group":         {change(func(r *JoinRequest) { r.Group = "" }), ErrInvalidGroup},
		"short session":    {change(func(r *JoinRequest) { r.Session = time.Millisecond }), ErrInvalidSession},
		"long session":     {change(func(r *JoinRequest) { r.Session = time.Hour }), ErrInvalidSession},
		"no protocol type": {change(func(r *JoinRequest) { r.ProtocolType = "" }), ErrInconsistentProtocol},
		"no protocols":     {change(func(r *JoinRequest) { r.Protocols = nil }), ErrInconsistentProtocol},
		"other type":       {change(func(r *JoinRequest) { r.ProtocolType = "connect" }), ErrInconsistentProtocol},
		"other protocols":  {change(func(r *JoinRequest) { r.Protocols[0].Name = "sticky" }), ErrInconsistentProtocol},
		"invented member":  {change(func(r *JoinRequest) { r.Member = "x" }), ErrUnknownMember},
		"long instance":    {change(func(r *JoinRequest) { r.Instance = strings.Repeat("x", 40_000) }), ErrInvalidName},
		"long protocol":    {change(func(r *JoinRequest) { r.Protocols[0].Name = strings.Repeat("x", 40_000) }), ErrInvalidName},
		"large metadata":   {change(func(r *JoinRequest) { r.Protocols[0].Metadata = make([]byte, 10_000) }), ErrGroupFull},
		"too many groups":  {change(func(r *JoinRequest) { r.Group = "another" }), ErrTooManyGroups},
	} {
		t.Run(what, func(t *testing.T) {
			run(t, Options{MaxGroups: 1, MaxBytes: 5000}, func(t *testing.T, w world) {
				w.stable(1)
				_, err := w.Join(t.Context(), test.r)
				w.want(err, test.want)
				w.state(Stable, 1, 1)
			})
		})
	}
}

func TestProtocolIsVotedFor(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		var joins []*joining
		for _, ps := range [][]string{{"a", "b", "c"}, {"b", "c"}, {"c", "b"}} {
			r := ask("")
			r.RequireID, r.Protocols = false, nil
			for _, p := range ps {
				r.Protocols = append(r.Protocols, Protocol{p, []byte(p)})
			}
			joins = append(joins, w.join(r))
			synctest.Wait()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, j := range joins {
			if j.Protocol != "b" {
				t.Errorf("protocol = %q, want b: a is not everybody's, c has one vote", j.Protocol)
			}
		}
		if m := joins[0].Members; len(m) != 3 || string(m[2].Metadata) != "b" {
			t.Errorf("members = %+v", m)
		}
	})
}

func TestCloseAnswersAll(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		ids, _ := w.stable(2)
		a := w.join(ask(ids[0]))
		synctest.Wait()
		w.want(w.Close(), nil)
		synctest.Wait()
		w.want(a.err, ErrClosed)
		w.want(w.Heartbeat(name, 1, Identity{Member: ids[1]}), ErrClosed)
		_, err := w.Offsets(name, nil)
		w.want(err, ErrClosed)
		_, err = w.List()
		w.want(err, ErrClosed)
		time.Sleep(time.Minute)
	})
}

func TestMemberIDs(t *testing.T) {
	long := newMemberID(strings.Repeat("ü", 1000))
	if len(long) > maxPrefix+40 || !utf8.ValidString(long) || !utf8.ValidString(newMemberID("\xff")) {
		t.Errorf("member id %q", long)
	}
}

// TestRandomWalk lets members do anything at any time, and looks only for what
// must never be: a stuck group, two leaders, an answer of another generation.
func TestRandomWalk(t *testing.T) {
	for seed := range 30 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			run(t, Options{}, func(t *testing.T, w world) { walk(w, int64(seed)) })
		})
	}
}
