package cluster

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
)

// registerIn makes a member object beside those that are in a bucket.
func registerIn(t *testing.T, b storage.Bucket, self Node) (number uint64, others []string, err error) {
	if others, err = listMembers(t.Context(), b); err == nil {
		number, err = register(t.Context(), b, self, others)
	}
	return number, others, err
}

// TestMemberObject: its number grows, it says what others must know, and garbage does no
// harm.
func TestMemberObject(t *testing.T) {
	b := mem.New()
	self := Node{ID: NodeID("a"), Name: "a", Boot: "1", Addresses: Addresses{Peer: {"": "a:7401"}}, Handed: true}
	first, others, err := registerIn(t, b, self)
	if err != nil || len(others) != 0 {
		t.Fatalf("%v, %v", others, err)
	}
	self.Boot = "2"
	second, others, err := registerIn(t, b, self)
	if err != nil || second <= first || len(others) != 1 || others[0] != memberKey(self.ID, first) {
		t.Fatalf("%d after %d, %v, %v", second, first, others, err)
	}
	got, err := readMember(t.Context(), b, memberKey(self.ID, second))
	if err != nil || got.Name != "a" || got.Boot != "2" || got.Member != second || got.Handed || got.Address(Peer) != "a:7401" {
		t.Errorf("%+v, %v", got, err)
	}
	if left, err := hasLeft(t.Context(), b, got); left || err != nil {
		t.Errorf("it has left: %v, %v", left, err)
	}
	if err := b.Delete(t.Context(), memberKey(self.ID, second)); err != nil {
		t.Fatal(err)
	}
	if left, err := hasLeft(t.Context(), b, got); !left || err != nil {
		t.Errorf("it has left: %v, %v", left, err)
	}
	if left, err := hasLeft(t.Context(), b, Node{ID: self.ID}); left || err != nil {
		t.Errorf("a version without member objects has left: %v, %v", left, err)
	}
	for key, body := range map[string]string{"member/00000001/00000000000000000001": "{", "member/x": "{}", "member/00000002/00000000000000000001": `{"id":3,"name":"c","member":1}`} {
		if err := b.Create(t.Context(), key, []byte(body)); err != nil {
			t.Fatal(err)
		}
		if n, err := readMember(t.Context(), b, key); !errors.Is(err, errMember) {
			t.Errorf("%s: %+v, %v", key, n, err)
		}
	}
	if _, err := readMember(t.Context(), b, memberKey(9, 9)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an object that is not there: %v", err)
	}
}

// TestMembers: a node leads beside garbage, deletes what is left of its former lives and
// of others that are gone, makes its object again, and deletes it in the end.
func TestMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		put := func(n Node) string {
			t.Helper()
			number, _, err := registerIn(t, b, n)
			if err != nil {
				t.Fatal(err)
			}
			return memberKey(n.ID, number)
		}
		self := Node{ID: NodeID("a"), Name: "a", Boot: "now", Addresses: Addresses{Peer: {"": "a:7401"}}}
		former := put(Node{ID: self.ID, Name: "a", Boot: "before"})
		gone := put(Node{ID: NodeID("z"), Name: "z", Boot: "z", Addresses: Addresses{Peer: {"": "z:7401"}}})
		const garbage = "member/00000001/00000000000000000001"
		if err := b.Create(t.Context(), garbage, []byte("?")); err != nil {
			t.Fatal(err)
		}
		led := false
		ctx, cancel := context.WithCancel(t.Context())
		m := New(ManagerOptions{Bucket: b, Self: self, Log: slog.New(slog.DiscardHandler), Shards: func() uint32 { return 1 },
			Ask:      func(context.Context, Node, Report) (Report, error) { return Report{}, ErrRefused },
			Follow:   func(context.Context, uint32, Node, uint64) {},
			Progress: func(uint32) (State, journal.Position) { return Owning, journal.Position{} },
			Lead: func(ctx context.Context, _ uint32, _ Node, _ uint64, _ Candidate) error {
				led = true
				<-ctx.Done()
				return nil
			}})
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		has := func(key string) bool { _, err := b.Get(t.Context(), key, 0, 1); return err == nil }
		time.Sleep(time.Minute)
		synctest.Wait()
		mine := memberKey(self.ID, m.node().Member)
		if !led || has(former) || !has(gone) || !has(mine) || !has(garbage) {
			t.Errorf("after a minute: leads %v, former life %v, other node %v, itself %v", led, has(former), has(gone), has(mine))
		}
		if err := b.Delete(t.Context(), mine); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if has(gone) || !has(mine) {
			t.Errorf("after 20 minutes: other node %v, itself %v", has(gone), has(mine))
		}
		if len(m.Members()) > 0 {
			t.Errorf("members: %v", m.Members())
		}
		cancel()
		if err := <-done; err != nil || has(mine) {
			t.Errorf("ended with %v; it is still there: %v", err, has(mine))
		}
	})
}

// TestSameName: a node that asks this one under its own name is told in the log, and
// nothing follows from it.
func TestSameName(t *testing.T) {
	var said strings.Builder
	m := New(ManagerOptions{Bucket: mem.New(), Self: Node{Name: "a", Boot: "1"}, Log: slog.New(slog.NewTextHandler(&said, nil)), Shards: func() uint32 { return 1 }})
	m.Heard(Report{Node: Node{Name: "a", Boot: "2", Host: "there", Member: 5}})
	if !strings.Contains(said.String(), "another node has the name of this one") || len(m.Members()) > 0 {
		t.Errorf("said %q, members %v", said.String(), m.Members())
	}
}

// TestDeadMember: nobody asks for a dead node for ever.
func TestDeadMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, 1)
		defer w.end()
		dead := w.start("a")
		w.start("b")
		w.start("c")
		time.Sleep(30 * time.Second)
		if w.figures().loads["a"] == 0 {
			t.Error("a has no shard")
		}
		dead.kill()
		time.Sleep(20 * time.Minute)
		left, err := w.disk.List(t.Context(), memberPrefix, "", 10)
		if f := w.figures(); err != nil || len(left) != 2 || f.none > 0 {
			t.Errorf("members are %v, %v; %+v", left, err, f)
		}
		for _, name := range []string{"b", "c"} {
			m := w.nodes[name].life.manager
			if m.mu.Lock(); len(m.members) != 1 {
				t.Errorf("%s still knows %d others", name, len(m.members))
			}
			m.mu.Unlock()
		}
	})
}
