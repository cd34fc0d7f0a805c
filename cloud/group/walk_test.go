package group

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing/synctest"
	"time"
)

// walk drives five members, two of them static, through random lives, and then
// lets them behave: the group must become stable with all of them in it.
func walk(w world, seed int64) {
	random := rand.New(rand.NewPCG(uint64(seed), 1))
	calm := make(chan struct{})
	members := make([]*walker, 5)
	var lives sync.WaitGroup
	defer lives.Wait()
	defer w.Close()
	for i := range members {
		m := &walker{w: w, random: rand.New(rand.NewPCG(uint64(seed), uint64(i)+2)), calm: calm}
		if i < 2 {
			m.instance = fmt.Sprint("static-", i)
		}
		members[i] = m
		lives.Go(m.live)
	}
	time.Sleep(time.Duration(random.IntN(300)) * time.Second)
	close(calm)
	time.Sleep(5 * time.Minute) // longer than any session and rebalance together
	synctest.Wait()
	d, err := w.Describe(name)
	if err != nil || d.State != Stable || d.Members != len(members) {
		w.t.Errorf("seed %d: the group does not settle: %+v, %v", seed, d.Listing, err)
	}
	leaders := 0
	for _, m := range members {
		if m.generation != d.Generation {
			w.t.Errorf("seed %d: a member is in generation %d of %d", seed, m.generation, d.Generation)
		}
		if m.leads {
			leaders++
		}
	}
	if leaders != 1 {
		w.t.Errorf("seed %d: %d leaders", seed, leaders)
	}
}

// walker is a client that follows the protocol, more or less.
type walker struct {
	w        world
	random   *rand.Rand
	calm     chan struct{}
	instance string

	id         string
	generation int32
	leads      bool
}

func (m *walker) calmed() bool {
	select {
	case <-m.calm:
		return true
	default:
		return false
	}
}

func (m *walker) live() {
	ctx := m.w.t.Context()
	for ctx.Err() == nil {
		m.generation = 0
		if !m.join(ctx) || !m.beat() {
			time.Sleep(100 * time.Millisecond)
		}
		if errors.Is(m.w.Heartbeat(name, 0, Identity{Member: "x"}), ErrClosed) {
			return
		}
	}
}

// join gets the member into a generation; it may give up waiting, and forget who
// it was.
func (m *walker) join(ctx context.Context) bool {
	if !m.calmed() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(m.random.IntN(60_000))*time.Millisecond)
		defer cancel()
	}
	r := ask(m.id)
	r.Instance = m.instance
	r.RequireID = m.random.IntN(3) > 0
	j, err := m.w.Join(ctx, r)
	switch {
	case errors.Is(err, ErrMemberIDRequired):
		m.id = j.Member
		return m.random.IntN(5) > 0 && m.join(ctx)
	case errors.Is(err, ErrUnknownMember), errors.Is(err, ErrFencedInstance):
		m.id = ""
	}
	if err != nil {
		return false
	}
	m.id, m.leads = j.Member, j.Leader == j.Member
	if !m.calmed() && m.random.IntN(10) == 0 {
		return false // no Sync
	}
	assignments := map[string][]byte{}
	if m.leads && !j.SkipAssignment {
		for _, o := range j.Members {
			assignments[o.ID] = fmt.Append(nil, j.Generation)
		}
	}
	s, err := m.w.Sync(ctx, SyncRequest{Group: name, Generation: j.Generation, Member: m.id, Instance: m.instance, Assignments: assignments})
	if err != nil {
		return false
	}
	if got := string(s.Assignment); got != fmt.Sprint(j.Generation) {
		m.w.t.Errorf("assignment of generation %q in generation %d", got, j.Generation)
	}
	m.generation = j.Generation
	return true
}

// beat sends heartbeats until something happens.
func (m *walker) beat() bool {
	for {
		time.Sleep(time.Duration(m.random.IntN(6_000)) * time.Millisecond)
		if !m.calmed() {
			switch m.random.IntN(12) {
			case 0: // goes away
				_, _ = m.w.Leave(name, []Identity{{Member: m.id, Instance: m.instance}})
				m.id = ""
				return false
			case 1: // dies, and is started again
				time.Sleep(time.Duration(m.random.IntN(20_000)) * time.Millisecond)
				m.id = ""
				return false
			}
		}
		err := m.w.Heartbeat(name, m.generation, Identity{m.id, m.instance})
		switch {
		case err == nil:
			continue
		case errors.Is(err, ErrRebalanceInProgress), errors.Is(err, ErrIllegalGeneration):
			return true
		default:
			m.id = ""
			return true
		}
	}
}
