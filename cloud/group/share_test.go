package group

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/share/state"
)

// sharing is a member of a share group that follows the protocol.
type sharing struct {
	w      world
	id     string
	topics []string
	epoch  int32
	reads  []Partition
}

func (m *sharing) beat() error {
	r := ShareHeartbeatRequest{Group: name, Member: m.id, Epoch: m.epoch, ClientID: "test"}
	if m.epoch == 0 {
		r.Topics = m.topics
	}
	a, err := m.w.ShareHeartbeat(r)
	if err != nil {
		m.epoch, m.reads = 0, nil
		return err
	}
	m.epoch = a.Epoch
	if a.Assigned != nil {
		m.reads = a.Assigned
	}
	return nil
}

func (m *sharing) leave() error {
	_, err := m.w.ShareHeartbeat(ShareHeartbeatRequest{Group: name, Member: m.id, Epoch: leaveEpoch})
	m.epoch, m.reads = 0, nil
	return err
}

func (m *sharing) has(want string) {
	m.w.t.Helper()
	if got := partitionNames(m.reads); got != want {
		m.w.t.Errorf("%s reads %q, want %q", m.id, got, want)
	}
}

func TestShareMembers(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.level = state.Level
		w.j.topic("a", 2)
		a, b, c := &sharing{w: w, id: "a", topics: []string{"a"}}, &sharing{w: w, id: "b", topics: []string{"a"}}, &sharing{w: w, id: "c", topics: []string{"a", "x"}}
		w.want(a.beat(), nil)
		a.has("a0 a1")
		w.want(b.beat(), nil)
		b.has("a1")
		w.want(a.beat(), nil)
		a.has("a0")
		w.want(c.beat(), nil) // more members than partitions
		c.has("a0")
		w.want(a.beat(), nil)
		w.want(b.beat(), nil)
		b.has("a1")
		if d, err := w.DescribeShare(name); err != nil || d.State != Stable || d.Type != Share || d.Epoch != 3 || len(d.Details) != 3 || d.Details[2].Topics[1] != "x" {
			t.Errorf("%+v, %v", d, err)
		}
		w.j.topic("x", 3)
		time.Sleep(2 * time.Second)
		w.want(a.beat(), nil)
		w.want(c.beat(), nil)
		c.has("a0 x0 x1 x2")
		w.want(c.leave(), nil)
		w.want(c.leave(), ErrUnknownMember)
		time.Sleep(40 * time.Second)
		w.want(a.beat(), nil)
		time.Sleep(20 * time.Second) // b is silent for a minute
		synctest.Wait()
		w.want(b.beat(), ErrUnknownMember)
		w.want(a.beat(), nil)
		a.has("a0 a1")
		w.want(a.leave(), nil)
		if l, _ := w.List(); len(l) != 0 || w.bytes != 0 {
			t.Errorf("%v and %d bytes are left", l, w.bytes)
		}
	})
}

// TestShareEpochs: an answer may be lost, but a member of an earlier life is not
// mistaken for this one.
func TestShareEpochs(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.level = state.Level
		w.j.topic("a", 2)
		a, b := &sharing{w: w, id: "a", topics: []string{"a"}}, &sharing{w: w, id: "b", topics: []string{"a"}}
		w.want(a.beat(), nil)
		w.want(b.beat(), nil)
		before := *a
		w.want(a.beat(), nil)
		*a = before // the answer was lost
		w.want(a.beat(), nil)
		a.has("a0")
		for _, epoch := range []int32{a.epoch + 1, 99} {
			a.epoch = epoch
			w.want(a.beat(), ErrFencedEpoch)
		}
		w.want(a.beat(), nil) // it joins again
		a.has("a0")
		for _, r := range []ShareHeartbeatRequest{
			{Group: name, Member: "m"}, {Group: name, Topics: []string{"a"}}, {Member: "m", Topics: []string{"a"}}, {Group: name, Member: "m", Epoch: -2},
		} {
			_, err := w.ShareHeartbeat(r)
			w.want(err, ErrInvalidHeartbeat)
		}
		w.j.level = state.Level - 1
		w.want(a.beat(), machine.ErrLevel)
		w.j.level = state.Level
		_, err := w.ShareHeartbeat(ShareHeartbeatRequest{Group: name, Member: string(make([]byte, maxName+1)), Topics: []string{"a"}})
		w.want(err, ErrInvalidName)
	})
}

// TestShareTypes: a group with members is of one type; an empty one takes the type of
// its next member.
func TestShareTypes(t *testing.T) {
	run(t, Options{MaxMembers: 2}, func(t *testing.T, w world) {
		w.j.level = state.Level
		w.j.topic("a", 2)
		s := &sharing{w: w, id: "s", topics: []string{"a"}}
		c := w.client("c", "a")
		w.want(c.beat(), nil)
		w.want(s.beat(), ErrUnknownGroup)
		_, err := w.DescribeShare(name)
		w.want(err, ErrUnknownGroup)
		_, err = w.Commit(t.Context(), CommitRequest{Group: name, Generation: c.epoch, Identity: Identity{Member: "c"}, Epochs: true, Offsets: []Offset{{Partition: c.owned[0], Offset: 5}}})
		w.want(err, nil)
		w.want(c.leave(-1), nil)
		w.want(s.beat(), nil)
		w.want(c.beat(), ErrUnknownGroup)
		_, err = w.DescribeConsumer(name)
		w.want(err, ErrUnknownGroup)
		_, err = w.Commit(t.Context(), CommitRequest{Group: name, Generation: -1, Offsets: []Offset{{Offset: 5}}})
		w.want(err, ErrUnknownMember)
		if errs, err := w.Leave(name, []Identity{{Member: "s"}}); err != nil || len(errs) != 1 || errs[0] != ErrUnknownMember {
			t.Errorf("%v, %v", errs, err)
		}
		w.want(w.Delete(t.Context(), name), ErrGroupNotEmpty)
		_, err = w.Join(t.Context(), JoinRequest{Group: name, Session: time.Minute, ProtocolType: "consumer", Protocols: []Protocol{{Name: "p"}}})
		w.want(err, ErrInconsistentProtocol)
		w.want((&sharing{w: w, id: "s2", topics: []string{"a"}}).beat(), nil)
		w.want((&sharing{w: w, id: "s3", topics: []string{"a"}}).beat(), ErrGroupFull)
		time.Sleep(time.Minute) // all are silent
		synctest.Wait()
		w.want(c.beat(), nil)
		if l, err := w.List(); err != nil || len(l) != 1 || l[0].Type != Consumer {
			t.Errorf("%+v, %v", l, err)
		}
	})
}

// TestShareWalk: however members come, go and change, each partition has a member that
// subscribes to its topic, and with one subscription their numbers of partitions differ
// by one at most.
func TestShareWalk(t *testing.T) {
	for seed := range uint64(50) {
		run(t, Options{}, func(t *testing.T, w world) {
			random := rand.New(rand.NewPCG(seed, 1))
			w.j.level = state.Level
			sizes := map[string]int32{"a": 1 + random.Int32N(9), "b": 1 + random.Int32N(9)}
			even := seed%2 == 0
			for name, n := range sizes {
				w.j.topic(name, n)
			}
			members := make([]*sharing, 6)
			for i := range members {
				members[i] = &sharing{w: w, id: fmt.Sprint("m", i), topics: []string{"a", "b"}}
			}
			for range 60 {
				m := members[random.IntN(len(members))]
				switch {
				case random.IntN(4) == 0 && m.epoch != 0:
					w.want(m.leave(), nil)
				case !even && m.epoch == 0:
					m.topics = [][]string{{"a"}, {"b"}, {"a", "b"}}[random.IntN(3)]
				}
				for _, m := range members {
					if m.epoch != 0 || random.IntN(3) == 0 {
						w.want(m.beat(), nil)
					}
				}
				for _, m := range members {
					if m.epoch != 0 {
						w.want(m.beat(), nil)
					}
				}
				covered(t, fmt.Sprint("seed ", seed), sizes, members, even)
			}
			for _, m := range members {
				if m.epoch != 0 {
					w.want(m.leave(), nil)
				}
			}
			if len(w.groups) > 0 || w.bytes != 0 {
				t.Errorf("seed %d: %d groups and %d bytes are left", seed, len(w.groups), w.bytes)
			}
		})
	}
}

func covered(t *testing.T, what string, sizes map[string]int32, members []*sharing, even bool) {
	t.Helper()
	read := make(map[Partition]int)
	wanted := make(map[string]bool)
	least, most := 1<<30, 0
	for _, m := range members {
		if m.epoch == 0 {
			continue
		}
		subscribed := make(map[[16]byte]bool)
		for _, name := range m.topics {
			wanted[name], subscribed[idOf(name)] = true, true
		}
		for _, p := range m.reads {
			if read[p]++; !subscribed[p.Topic] {
				t.Fatalf("%s: %s reads what it does not subscribe to", what, m.id)
			}
		}
		least, most = min(least, len(m.reads)), max(most, len(m.reads))
	}
	for name := range wanted {
		for i := range sizes[name] {
			if read[Partition{idOf(name), i}] == 0 {
				t.Fatalf("%s: nobody reads %s %d", what, name, i)
			}
		}
	}
	if even && most-least > 2 { // one of each topic
		t.Fatalf("%s: between %d and %d partitions each", what, least, most)
	}
}
