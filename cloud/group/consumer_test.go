package group

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

func (j *journal) Topics() []state.Topic {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.topics)
}

func (j *journal) TopicByID(id weir.TopicID) (state.Topic, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.IndexFunc(j.topics, func(t state.Topic) bool { return t.ID == id })
	if i < 0 {
		return state.Topic{}, false
	}
	return j.topics[i], true
}

func (j *journal) Level() int { return max(j.level, 1) }

// topic makes a topic, or changes its partitions; 0 deletes it.
func (j *journal) topic(name string, partitions int32) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.IndexFunc(j.topics, func(t state.Topic) bool { return t.Name == name })
	switch {
	case i < 0:
		j.topics = append(j.topics, state.Topic{ID: idOf(name), Name: name, Partitions: partitions})
	case partitions == 0:
		j.topics = slices.Delete(j.topics, i, i+1)
	default:
		j.topics[i].Partitions = partitions
	}
}

func idOf(name string) (id weir.TopicID) {
	copy(id[:], name)
	return id
}

// client is a member of a consumer group that follows the protocol.
type client struct {
	w        world
	instance string
	topics   []string
	pattern  string
	may      func(string) bool

	id    string
	epoch int32
	owned []Partition
	tell  bool // it has something to say about what it owns
	full  bool // it missed an answer, and says everything
}

func (w world) client(id string, topics ...string) *client {
	return &client{w: w, id: id, topics: topics}
}

func (m *client) joining() ConsumerHeartbeatRequest {
	r := ConsumerHeartbeatRequest{
		Group: name, Identity: Identity{m.id, m.instance}, Rebalance: 30 * time.Second,
		Topics: append([]string{}, m.topics...), Owned: []Partition{}, ClientID: "test", May: m.may,
	}
	if m.pattern != "" {
		r.Pattern = &m.pattern
	}
	return r
}

// beat sends what the client has to say; it gives up at once what it is to give up.
func (m *client) beat() error {
	r := m.joining()
	if r.Epoch = m.epoch; r.Epoch != 0 && m.full {
		r.Owned = append(r.Owned, m.owned...)
	} else if r.Epoch != 0 {
		r.Rebalance, r.Topics, r.Pattern, r.Owned = -1, nil, nil, nil
		if m.tell {
			r.Owned = append([]Partition{}, m.owned...)
		}
	}
	a, err := m.w.ConsumerHeartbeat(r)
	if err != nil {
		return err
	}
	m.id, m.epoch, m.tell, m.full = a.Member, a.Epoch, false, false
	if a.Assigned != nil {
		m.tell = !slices.Equal(m.owned, a.Assigned)
		m.owned = a.Assigned
	}
	return nil
}

func (m *client) leave(epoch int32) error {
	_, err := m.w.ConsumerHeartbeat(ConsumerHeartbeatRequest{Group: name, Identity: Identity{m.id, m.instance}, Epoch: epoch, Rebalance: -1})
	m.owned, m.epoch = nil, 0
	return err
}

// has compares what the client has with a list like "a0 a1 b0".
func (m *client) has(want string) {
	m.w.t.Helper()
	if got := partitionNames(m.owned); got != want {
		m.w.t.Errorf("%s has %q, want %q", m.id, got, want)
	}
}

func partitionNames(of []Partition) string {
	var all []string
	for _, p := range of {
		all = append(all, fmt.Sprint(strings.TrimRight(string(p.Topic[:]), "\x00"), p.Index))
	}
	return strings.Join(all, " ")
}

// calm lets all members beat until the group is stable.
func (w world) calm(members ...*client) {
	w.t.Helper()
	for range 10 {
		for _, m := range members {
			w.want(m.beat(), nil)
		}
		if d, err := w.DescribeConsumer(name); err == nil && d.State == Stable {
			return
		}
	}
	d, err := w.DescribeConsumer(name)
	w.t.Fatalf("the group does not become stable: %+v, %v", d, err)
}

func TestConsumerRefusals(t *testing.T) {
	run(t, Options{MaxGroups: 1}, func(t *testing.T, w world) {
		w.j.topic("a", 2)
		a := w.client("a", "a")
		text := func(s string) *string { return &s }
		for what, c := range map[string]struct {
			change func(r *ConsumerHeartbeatRequest)
			want   error
		}{
			"no group":           {func(r *ConsumerHeartbeatRequest) { r.Group = "" }, ErrInvalidHeartbeat},
			"long group":         {func(r *ConsumerHeartbeatRequest) { r.Group = strings.Repeat("g", maxName+1) }, ErrInvalidGroup},
			"no member":          {func(r *ConsumerHeartbeatRequest) { r.Member = "" }, ErrInvalidHeartbeat},
			"no member, later":   {func(r *ConsumerHeartbeatRequest) { r.Member, r.MakeID, r.Epoch = "", true, 1 }, ErrInvalidHeartbeat},
			"epoch":              {func(r *ConsumerHeartbeatRequest) { r.Epoch = -3 }, ErrInvalidHeartbeat},
			"away and dynamic":   {func(r *ConsumerHeartbeatRequest) { r.Epoch = -2 }, ErrInvalidHeartbeat},
			"no rebalance":       {func(r *ConsumerHeartbeatRequest) { r.Rebalance = -1 }, ErrInvalidHeartbeat},
			"owns":               {func(r *ConsumerHeartbeatRequest) { r.Owned = []Partition{{}} }, ErrInvalidHeartbeat},
			"does not say":       {func(r *ConsumerHeartbeatRequest) { r.Owned = nil }, ErrInvalidHeartbeat},
			"no subscription":    {func(r *ConsumerHeartbeatRequest) { r.Topics = nil }, ErrInvalidHeartbeat},
			"long name":          {func(r *ConsumerHeartbeatRequest) { r.Instance = strings.Repeat("i", maxName+1) }, ErrInvalidName},
			"assignor":           {func(r *ConsumerHeartbeatRequest) { r.Assignor = text("sticky") }, ErrUnsupportedAssignor},
			"pattern":            {func(r *ConsumerHeartbeatRequest) { r.Pattern = text("a)(b") }, ErrInvalidPattern},
			"large pattern":      {func(r *ConsumerHeartbeatRequest) { r.Pattern = text(strings.Repeat("[a-z]{1000}", 3)) }, ErrInvalidPattern},
			"long pattern":       {func(r *ConsumerHeartbeatRequest) { r.Pattern = text(strings.Repeat("a", maxPattern+1)) }, ErrInvalidPattern},
			"unknown group":      {func(r *ConsumerHeartbeatRequest) { r.Group, r.Epoch = "other", 3 }, ErrUnknownMember},
			"leave of nothing":   {func(r *ConsumerHeartbeatRequest) { r.Group, r.Epoch = "other", -1 }, ErrUnknownMember},
			"other instance":     {func(r *ConsumerHeartbeatRequest) { r.Member, r.Instance = "a", "i" }, ErrInvalidHeartbeat},
			"too many groups":    {func(r *ConsumerHeartbeatRequest) { r.Group = "other" }, ErrTooManyGroups},
			"unknown member":     {func(r *ConsumerHeartbeatRequest) { r.Member, r.Epoch = "b", 1 }, ErrUnknownMember},
			"leave of a member":  {func(r *ConsumerHeartbeatRequest) { r.Member, r.Epoch = "b", -1 }, ErrUnknownMember},
			"epoch from nowhere": {func(r *ConsumerHeartbeatRequest) { r.Member, r.Epoch = "a", 2 }, ErrFencedEpoch},
		} {
			w.want(a.beat(), nil)
			r := w.client("new", "a").joining()
			c.change(&r)
			if _, err := w.ConsumerHeartbeat(r); err == nil {
				t.Errorf("%s: no error", what)
			} else {
				w.want(err, c.want)
			}
		}
		a.has("a0 a1")
		w.want(w.Close(), nil)
		w.want(a.beat(), ErrClosed)
	})
}

// A partition goes over in steps: its reader is told, gives it up, and only then it
// is given on.
func TestConsumerHandover(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.topic("a", 4)
		a, b := w.client("a", "a"), w.client("b", "a")
		w.want(a.beat(), nil)
		a.has("a0 a1 a2 a3")
		w.want(b.beat(), nil)
		if b.has(""); a.epoch != 1 || b.epoch != 2 {
			t.Errorf("epochs %d, %d", a.epoch, b.epoch)
		}
		r, err := w.ConsumerHeartbeat(ConsumerHeartbeatRequest{Group: name, Identity: Identity{Member: "a"}, Epoch: 1, Rebalance: -1})
		w.want(err, nil)
		if r.Epoch != 1 || partitionNames(r.Assigned) != "a0 a1" || r.Interval != 5*time.Second {
			t.Errorf("told %+v", r)
		}
		w.want(b.beat(), nil)
		b.has("")
		w.want(a.beat(), nil) // says nothing of what it has: nothing is given up
		w.want(b.beat(), nil)
		b.has("")
		if a.epoch != 1 {
			t.Errorf("epoch %d before anything was given up", a.epoch)
		}
		a.owned, a.tell = r.Assigned, true
		w.want(a.beat(), nil)
		w.want(b.beat(), nil)
		b.has("a2 a3")
		if d, _ := w.DescribeConsumer(name); a.epoch != 2 || b.epoch != 2 || d.State != Stable || d.Epoch != 2 || d.Type != Consumer || d.Members != 2 || partitionNames(d.Details[1].Target) != "a2 a3" {
			t.Errorf("epochs %d and %d, %+v", a.epoch, b.epoch, d)
		}
		w.want(b.leave(-1), nil)
		w.want(b.leave(-1), ErrUnknownMember)
		w.want(a.beat(), nil)
		a.has("a0 a1 a2 a3")

		// The answer with epoch 4 is lost; a member may come with the one before.
		w.j.topic("a", 5)
		time.Sleep(viewAge)
		had, epoch := a.owned, a.epoch
		w.want(a.beat(), nil)
		a.has("a0 a1 a2 a3 a4")
		full := a.joining()
		full.Epoch, full.Owned = epoch, had
		again, err := w.ConsumerHeartbeat(full)
		if w.want(err, nil); again.Epoch != a.epoch || partitionNames(again.Assigned) != "a0 a1 a2 a3 a4" {
			t.Errorf("told again %+v", again)
		}
		full.Owned = []Partition{{idOf("x"), 1}}
		_, err = w.ConsumerHeartbeat(full)
		w.want(err, ErrFencedEpoch)
		a.epoch, a.owned = 0, nil
		w.want(a.beat(), nil) // it joins again, with its id
		a.has("a0 a1 a2 a3 a4")
		w.want(a.leave(-1), nil)
		if l, _ := w.List(); len(l) != 0 || w.bytes != 0 {
			t.Errorf("%v and %d bytes are left", l, w.bytes)
		}
	})
}

func TestConsumerTimeouts(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.topic("a", 2)
		a, b := w.client("a", "a"), w.client("b", "a")
		w.want(a.beat(), nil)
		w.want(b.beat(), nil)
		// a lives, but does not give up what it is to give up.
		for range 6 {
			time.Sleep(5 * time.Second)
			a.tell = false
			w.want(a.beat(), nil)
			w.want(b.beat(), nil)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		w.want(a.beat(), ErrUnknownMember)
		w.want(b.beat(), nil)
		b.has("a0 a1")
		time.Sleep(45 * time.Second)
		synctest.Wait()
		if l, _ := w.List(); len(l) != 0 || w.bytes != 0 {
			t.Errorf("%v and %d bytes are left", l, w.bytes)
		}
	})
}

func TestConsumerStatic(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.topic("a", 4)
		a, b := w.client("a", "a"), w.client("b", "a")
		a.instance, b.instance = "ia", "ib"
		w.calm(a, b)
		before, epoch := partitionNames(a.owned), a.epoch
		next := w.client("a2", "a")
		next.instance = "ia"
		w.want(next.beat(), ErrUnreleasedInstance)
		w.want(a.leave(-2), nil)
		w.want(b.beat(), nil)
		w.want(next.beat(), nil)
		if next.has(before); next.epoch != epoch {
			t.Errorf("a new epoch %d: somebody was disturbed", next.epoch)
		}
		a.epoch = epoch
		w.want(a.beat(), ErrFencedInstance)
		_, err := w.ConsumerHeartbeat(ConsumerHeartbeatRequest{Group: name, Identity: Identity{"a", "ia"}, Epoch: -1, Rebalance: -1})
		w.want(err, ErrFencedInstance)
		w.want(next.leave(-2), nil)
		for range 9 {
			time.Sleep(5 * time.Second)
			w.want(b.beat(), nil)
		}
		time.Sleep(time.Second)
		w.calm(b)
		b.has("a0 a1 a2 a3") // its place was kept for a session
		errs, err := w.Leave(name, []Identity{{Instance: "ic"}, {Member: "b"}, {Member: "x", Instance: "ib"}, {Instance: "ib"}})
		if w.want(err, nil); !slices.Equal(errs, []error{ErrUnknownMember, ErrUnknownMember, ErrFencedInstance, nil}) {
			t.Errorf("leave: %v", errs)
		}
	})
}

// While a static member is away others get what it is not to have any more.
func TestConsumerStaticYields(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.topic("a", 4)
		a, b := w.client("a", "a"), w.client("b", "a")
		a.instance = "ia"
		w.calm(a)
		w.want(a.leave(-2), nil)
		w.want(b.beat(), nil)
		b.has("a2 a3")
		a.id = "again"
		w.calm(a, b)
		a.has("a0 a1")
	})
}

func TestConsumerTopics(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.topic("a1", 1)
		w.j.topic("b", 1)
		w.j.topic("hidden", 1)
		w.j.topic("weir.vhost.x", 1)
		a, b := w.client("a", "b", "none", "b", "weir.vhost.x"), w.client("b")
		b.pattern = "a.|hidden|weir.*"
		b.may = func(topic string) bool { return topic != "hidden" }
		w.calm(a, b)
		a.has("b0")
		b.has("a10")
		epoch := a.epoch
		w.j.topic("other", 1) // not read by any member
		time.Sleep(viewAge)
		w.calm(a, b)
		if a.epoch != epoch {
			t.Error("a topic that nobody reads disturbs the group")
		}
		w.j.topic("a2", 2)
		w.j.topic("b", 2)
		w.j.topic("a1", 0)
		w.j.topic("xa3", 1) // not the whole name
		time.Sleep(viewAge)
		w.calm(a, b)
		a.has("b0 b1")
		b.has("a20 a21")
		w.j.topic("none", 1)
		time.Sleep(viewAge)
		w.calm(a, b)
		a.has("b0 b1 none0")

		// A subscription changes; the pattern ends.
		none := ""
		got, err := w.ConsumerHeartbeat(ConsumerHeartbeatRequest{Group: name, Identity: Identity{Member: "b"}, Epoch: b.epoch, Rebalance: -1, Pattern: &none, Topics: []string{"b"}})
		if w.want(err, nil); got.Assigned == nil || len(got.Assigned) != 0 {
			t.Errorf("after the change: %+v", got)
		}
		b.owned, b.tell = got.Assigned, true
		w.calm(a, b)
		if len(a.owned)+len(b.owned) != 3 || len(b.owned) != 1 {
			t.Errorf("%v and %v", a.owned, b.owned)
		}
	})
}

func TestConsumerLimits(t *testing.T) {
	run(t, Options{MaxMembers: 2, MaxBytes: 100 * partitionSize}, func(t *testing.T, w world) {
		w.j.topic("a", 90)
		w.j.topic("b", 90)
		a := w.client("a", "a")
		w.want(a.beat(), nil)
		w.want(w.client("b", "b").beat(), ErrGroupFull)
		all := w.client("b")
		all.pattern = ".*"
		w.want(all.beat(), ErrGroupFull)
		w.calm(a, w.client("b", "a"))
		w.want(w.client("c", "a").beat(), ErrGroupFull)
		// What is there already stays there when its topic grows.
		w.j.topic("a", 200)
		time.Sleep(viewAge)
		a.epoch, a.owned = 0, nil
		w.want(a.beat(), nil)
	})
}

func TestConsumerAndClassic(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.topic("a", 1)
		a := w.client("a", "a")
		ids, generation := w.stable(1)
		w.want(a.beat(), ErrUnknownGroup)
		_, err := w.DescribeConsumer(name)
		w.want(err, ErrUnknownGroup)
		if _, err := w.Commit(t.Context(), CommitRequest{Group: name, Generation: generation, Identity: Identity{Member: ids[0]}, Offsets: []Offset{{Offset: 1}}}); err != nil {
			t.Fatal(err)
		}
		_, err = w.Leave(name, []Identity{{Member: ids[0]}})
		w.want(err, nil)
		w.want(a.beat(), nil) // it was empty
		if a.epoch <= generation {
			t.Errorf("epoch %d behind generation %d", a.epoch, generation)
		}
		j := w.join(ask(""))
		synctest.Wait()
		w.want(j.err, ErrInconsistentProtocol)
		w.want(w.Heartbeat(name, a.epoch, Identity{Member: "a"}), ErrUnknownMember)
		_, err = w.Sync(t.Context(), SyncRequest{Group: name, Generation: a.epoch, Member: "a"})
		w.want(err, ErrUnknownMember)
		w.want(w.Delete(t.Context(), name), ErrGroupNotEmpty)
		if d, err := w.Describe(name); err != nil || d.Type != Consumer || d.State != Stable || d.ProtocolType != "consumer" || d.Members != 1 {
			t.Errorf("%+v, %v", d, err)
		}
		w.want(a.leave(-1), nil)
		if l, _ := w.List(); len(l) != 1 || l[0].Type != Consumer || l[0].State != Empty {
			t.Errorf("%+v", l)
		}
		w.stable(1)
		if l, _ := w.List(); len(l) != 1 || l[0].Type != Classic || l[0].State != Stable {
			t.Errorf("%+v", l)
		}
	})
}

func TestConsumerCommits(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.topic("a", 2)
		a, b := w.client("a", "a"), w.client("b", "a")
		commit := func(member string, epoch int32, epochs bool, index int32) error {
			_, err := w.Commit(t.Context(), CommitRequest{Group: name, Generation: epoch, Identity: Identity{Member: member}, Epochs: epochs,
				Offsets: []Offset{{Partition: Partition{idOf("a"), index}, Offset: 5}}})
			return err
		}
		w.want(commit("a", 1, true, 0), ErrUnknownMember) // as after a takeover
		w.want(commit("a", 1, false, 0), ErrIllegalGeneration)
		w.want(a.beat(), nil)
		w.want(commit("a", 1, true, 0), nil)
		w.calm(a, b)
		w.want(commit("a", 1, true, 0), nil)           // had since 1
		w.want(commit("a", 1, true, 1), ErrStaleEpoch) // has not any more
		w.want(commit("a", 1, false, 1), ErrIllegalGeneration)
		w.want(commit("a", 3, true, 0), ErrStaleEpoch)
		w.want(commit("a", -1, true, 0), ErrStaleEpoch)
		w.want(commit("a", -2, true, 0), ErrStaleEpoch)
		w.want(commit("b", 1, true, 1), ErrStaleEpoch) // not yet
		w.want(commit("c", 2, true, 0), ErrUnknownMember)
		w.want(commit("", -1, true, 0), ErrUnknownMember)
		for _, c := range []struct {
			member string
			epoch  int32
			want   error
		}{{"a", 2, nil}, {"a", 1, ErrStaleEpoch}, {"c", 1, ErrUnknownMember}, {"", -1, nil}} {
			w.want(w.MayFetch(name, c.member, c.epoch), c.want)
		}
		w.want(w.MayFetch("nobody", "x", 7), nil)
		for epoch, want := range map[int32]error{1: ErrIllegalGeneration, 2: nil, -1: ErrIllegalGeneration} { // transactions know of no epochs
			_, err := w.MayCommit(CommitRequest{Group: name, Generation: epoch, Identity: Identity{Member: "a"}, Offsets: []Offset{{Partition: Partition{idOf("a"), 1}}}})
			w.want(err, want)
		}
		w.want(commit("a", 2, true, 0), nil)
		a.epoch, a.owned = 0, nil
		w.want(a.beat(), nil)
		w.want(commit("a", 1, true, 0), ErrStaleEpoch) // of its earlier life

		// The next reader of a partition gets it when the last commit has landed.
		gate := make(chan struct{})
		w.j.hold(gate)
		done := make(chan error, 1)
		go func() { done <- commit("b", 2, true, 1) }()
		synctest.Wait()
		w.want(b.leave(-1), nil)
		w.want(a.beat(), nil)
		a.has("a0")
		close(gate)
		w.j.hold(nil)
		w.want(<-done, nil)
		w.calm(a)
		a.has("a0 a1")
		w.want(a.leave(-1), nil)
		w.want(commit("", -1, true, 0), nil)
	})
}

// A new owner knows the offsets and no member. The members join again, and an earlier
// epoch is worth nothing, even when the group reaches it once more.
func TestConsumerTakeover(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.topic("a", 2)
		a, b := w.client("a", "a"), w.client("b", "a")
		w.calm(a, b)
		commit := CommitRequest{Group: name, Generation: a.epoch, Identity: Identity{Member: "a"}, Epochs: true, Offsets: []Offset{{Partition: a.owned[0], Offset: 5}}}
		_, err := w.Commit(t.Context(), commit)
		w.want(err, nil)
		next := New(Options{Log: w.opts.Log})
		for i, k := range w.j.kinds {
			w.want(next.Apply(k, w.j.bodys[i]), nil)
		}
		next.Serve(w.j)
		defer func() { w.want(next.Close(), nil) }()
		a.w.Coordinator, b.w.Coordinator = next, next
		w.want(a.beat(), ErrUnknownMember)
		w.want(next.MayFetch(name, "a", a.epoch), nil)
		_, err = next.Commit(t.Context(), commit)
		w.want(err, ErrUnknownMember)
		for _, m := range []*client{a, b} {
			m.epoch, m.owned = 0, nil
			w.want(m.beat(), nil)
		}
		_, err = next.Commit(t.Context(), commit) // of its earlier life
		w.want(err, ErrStaleEpoch)
		if d, err := next.DescribeConsumer(name); err != nil || d.Epoch != 2 || len(d.Details) != 2 {
			t.Errorf("%+v, %v", d, err)
		}
		if o, _ := next.Offsets(name, nil); len(o) != 1 || o[0].Offset != 5 {
			t.Errorf("offsets %+v", o)
		}
	})
}

// TestOffsetsTopicInGroups: a member of a consumer group gets the offsets topic if it
// names it, and not if it means all topics.
func TestOffsetsTopicInGroups(t *testing.T) {
	all, spelled := ".*", "t|__consumer_offsets"
	for what, c := range map[string]struct {
		topics  []string
		pattern *string
		want    bool
	}{"named": {[]string{"t", OffsetsTopic}, nil, true}, "all": {nil, &all, false}, "spelled out": {nil, &spelled, true}} {
		runHistory(t, func(t *testing.T, w world) {
			r, err := w.ConsumerHeartbeat(ConsumerHeartbeatRequest{Group: name, Identity: Identity{Member: "a"}, Rebalance: time.Second,
				Topics: c.topics, Pattern: c.pattern, Owned: []Partition{}})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, p := range r.Assigned {
				if p.Topic == OffsetsTopicID() {
					n++
				}
			}
			if want := map[bool]int{true: OffsetsPartitions}[c.want]; n != want || len(r.Assigned) != want+9 {
				t.Errorf("%s: %d partitions of the offsets topic and %d of others, want %d", what, n, len(r.Assigned)-n, want)
			}
		})
	}
}
