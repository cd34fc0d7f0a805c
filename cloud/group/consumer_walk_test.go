package group

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// roamer is a client that may lose answers, take its time, go away and die.
type roamer struct {
	client
	alive bool
	died  time.Time // if it went without a word: others may have what it had a session later
}

// TestConsumerWalk drives members through random lives while topics are created, grow
// and are deleted. No member ever has a partition that another has and has not given
// up. When all is calm, the partitions are spread evenly and stay where they are.
func TestConsumerWalk(t *testing.T) {
	for seed := range uint64(60) {
		run(t, Options{}, func(t *testing.T, w world) { consumerWalk(w, seed) })
	}
}

func consumerWalk(w world, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	sizes := map[string]int32{"a": 4, "b": 7}
	for _, name := range []string{"a", "b"} {
		w.j.topic(name, sizes[name])
	}
	members := make([]*roamer, 6)
	for i := range members {
		m := &roamer{client: *w.client(fmt.Sprint("m", i), "a", "b")}
		if i < 2 {
			m.instance = fmt.Sprint("static-", i)
		}
		if i == 5 {
			m.topics, m.pattern = nil, "[ab]"
		}
		members[i] = m
	}
	for range 400 {
		m := members[random.IntN(len(members))]
		switch random.IntN(14) {
		case 0:
			time.Sleep(time.Duration(random.IntN(12_000)) * time.Millisecond)
		case 1:
			name := []string{"a", "b"}[random.IntN(2)]
			if sizes[name] += random.Int32N(3); random.IntN(8) == 0 {
				sizes[name] = random.Int32N(4)
			}
			w.j.topic(name, sizes[name])
		case 2:
			if m.alive {
				_ = m.leave([]int32{leaveEpoch, leaveStaticEpoch}[random.IntN(2)]) // a dynamic one may not say the latter: then it dies
				m.die(random)
			}
		case 3:
			if m.alive && random.IntN(3) == 0 {
				m.die(random)
			}
		default:
			m.act(random)
		}
		exclusive(w, seed, members)
	}
	calmed(w, seed, sizes, members)
}

func (m *roamer) die(random *rand.Rand) {
	m.alive, m.died, m.owned, m.epoch, m.tell = false, time.Now(), nil, 0, false
	if m.instance != "" || random.IntN(2) == 0 {
		m.id = fmt.Sprint(m.id[:2], "-", random.Uint32()) // it is started again
	}
}

// act sends a heartbeat, of which the answer may be lost.
func (m *roamer) act(random *rand.Rand) {
	before := m.client
	switch err := m.beat(); {
	case err == nil && random.IntN(6) == 0:
		m.client = before // lost
		m.full = true
	case err == nil:
		m.alive = true
	case errors.Is(err, ErrUnreleasedInstance):
	case errors.Is(err, ErrFencedEpoch), errors.Is(err, ErrUnknownMember), errors.Is(err, ErrFencedInstance):
		m.owned, m.epoch, m.tell = nil, 0, false
	default:
		m.w.t.Errorf("heartbeat: %v", err)
	}
}

// exclusive checks what the members that the coordinator knows believe to have. A
// member that was fenced or removed learns that at its next heartbeat; it cannot
// commit.
func exclusive(w world, seed uint64, members []*roamer) {
	w.t.Helper()
	had := map[Partition]string{}
	for _, m := range members {
		for _, p := range m.owned {
			c := CommitRequest{Group: name, Generation: m.epoch, Identity: Identity{Member: m.id}, Epochs: true, Offsets: []Offset{{Partition: p}}}
			w.mu.Lock()
			g := w.groups[name]
			may := g != nil && g.consumers != nil && g.consumers.members[m.id] != nil && g.mayCommit(&c) == nil
			w.mu.Unlock()
			if !may {
				continue
			}
			if other, ok := had[p]; ok {
				w.t.Fatalf("seed %d: %s and %s both have %s", seed, other, m.id, partitionNames([]Partition{p}))
			}
			had[p] = m.id
		}
	}
}

// calmed lets all members behave, and checks the result.
func calmed(w world, seed uint64, sizes map[string]int32, members []*roamer) {
	w.t.Helper()
	moves := 0
	for round := range 40 {
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for _, m := range members {
			before := m.owned
			for range 3 {
				if err := m.beat(); err == nil {
					break
				}
				m.owned, m.epoch, m.tell = nil, 0, false
			}
			if round >= 30 && !slices.Equal(before, m.owned) {
				moves++
			}
		}
		exclusive(w, seed, members)
	}
	if moves > 0 {
		w.t.Errorf("seed %d: %d moves although nothing happens", seed, moves)
	}
	total, least, most := 0, 1<<30, 0
	for _, m := range members {
		total, least, most = total+len(m.owned), min(least, len(m.owned)), max(most, len(m.owned))
	}
	d, err := w.DescribeConsumer(name)
	if err != nil || d.State != Stable || total != int(sizes["a"]+sizes["b"]) || most-least > 1 {
		w.t.Errorf("seed %d: %v, %d of %d partitions, between %d and %d each: %v", seed, d.State, total, sizes["a"]+sizes["b"], least, most, err)
	}
	depart(w, seed, members)
}

// depart lets one go: the others get what it had, and keep what they have. Then all
// go, and nothing is left.
func depart(w world, seed uint64, members []*roamer) {
	gone := members[rand.New(rand.NewPCG(seed, 2)).IntN(len(members))]
	had := len(gone.owned)
	w.want(gone.leave(leaveEpoch), nil)
	lost, got := 0, 0
	for range 3 {
		for _, m := range members {
			if m == gone {
				continue
			}
			before := m.owned
			w.want(m.beat(), nil)
			for _, p := range before {
				if !slices.Contains(m.owned, p) {
					lost++
				}
			}
			got += len(m.owned) - len(before)
		}
	}
	if lost > 0 || got != had {
		w.t.Errorf("seed %d: of %d partitions %d found a new reader, and %d others moved", seed, had, got, lost)
	}
	for _, m := range members {
		if m != gone {
			w.want(m.leave(leaveEpoch), nil)
		}
	}
	if len(w.groups) > 0 || w.bytes != 0 {
		w.t.Errorf("seed %d: %d groups and %d bytes are left", seed, len(w.groups), w.bytes)
	}
}
