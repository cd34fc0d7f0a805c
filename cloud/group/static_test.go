package group

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestStaticMember(t *testing.T) {
	static := func(instance, member string) JoinRequest {
		r := ask(member)
		r.Instance = instance
		return r
	}
	run(t, Options{}, func(t *testing.T, w world) {
		a, b := w.join(static("one", "")), w.join(static("two", ""))
		time.Sleep(time.Second)
		synctest.Wait()
		w.settle([]*joining{a, b})
		leader, follower := a, b
		if b.Leader == b.Member {
			leader, follower = b, a
		}
		instance := map[*joining]string{a: "one", b: "two"}

		// It restarts: the same place, no rebalance, and the old one is fenced.
		c := w.join(static(instance[follower], ""))
		synctest.Wait()
		if !c.done.Load() || c.err != nil || c.Generation != 1 || c.Member == follower.Member || c.SkipAssignment {
			t.Fatalf("follower came back as %+v", c)
		}
		s := &syncing{}
		s.SyncResponse, s.err = w.Sync(t.Context(), SyncRequest{Group: name, Generation: 1, Member: c.Member, Instance: instance[follower]})
		if s.err != nil || string(s.Assignment) != "for "+follower.Member {
			t.Fatalf("its assignment = %+v", s)
		}
		w.want(w.Heartbeat(name, 1, Identity{follower.Member, instance[follower]}), ErrFencedInstance)
		w.want(w.Heartbeat(name, 1, Identity{Member: follower.Member}), ErrUnknownMember)
		_, err := w.Join(t.Context(), static(instance[follower], follower.Member))
		w.want(err, ErrFencedInstance)
		_, err = w.Commit(t.Context(), CommitRequest{Group: name, Generation: 1, Identity: Identity{follower.Member, instance[follower]}})
		w.want(err, ErrFencedInstance)

		// So does the leader; it is told to leave the assignment alone.
		d := w.join(static(instance[leader], ""))
		synctest.Wait()
		if !d.done.Load() || !d.SkipAssignment || d.Leader != d.Member || len(d.Members) != 2 {
			t.Fatalf("leader came back as %+v", d)
		}
		old := static(instance[leader], "")
		old.SkipLeader = false // one that cannot be told so believes that another leads
		e := w.join(old)
		synctest.Wait()
		if !e.done.Load() || e.Leader == e.Member || e.Members != nil {
			t.Fatalf("old leader came back as %+v", e)
		}

		// Removed by its instance id alone.
		errs, _ := w.Leave(name, []Identity{{Instance: "one"}, {Instance: "nobody"}, {Member: "x", Instance: "two"}})
		w.want(errs[0], nil)
		w.want(errs[1], ErrUnknownMember)
		w.want(errs[2], ErrFencedInstance)
		w.state(PreparingRebalance, 1, 1)
	})
}

func TestStaticMemberKeepsItsPlaceInARebalance(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		r := ask("")
		r.Instance, r.Session = "one", 5*time.Minute
		a := w.join(r)
		b := w.join(ask(w.id()))
		time.Sleep(time.Second)
		synctest.Wait()
		w.settle([]*joining{a, b})
		fresh := w.join(ask(w.id()))
		synctest.Wait()
		b = w.join(ask(b.Member))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		w.state(CompletingRebalance, 2, 3) // the static member is away, and in
		if b.err != nil || fresh.err != nil || b.Generation != 2 {
			t.Fatalf("joins = %+v, %+v", b, fresh)
		}
	})
}
