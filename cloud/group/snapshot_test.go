package group

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
)

// randomEntry is one that Commit, Delete and the like may write.
func randomEntry(random *rand.Rand) (uint16, []byte) {
	group := fmt.Sprint("g", random.IntN(4))
	topic := [16]byte{15: byte(random.IntN(3))}
	partitions := make([]Partition, 1+random.IntN(3))
	for i := range partitions {
		partitions[i] = Partition{topic, random.Int32N(5)}
	}
	switch n := random.IntN(21); {
	case n < 14:
		var offsets []Offset
		for _, p := range partitions {
			offsets = append(offsets, Offset{Partition: p, Offset: random.Int64N(1 << 40), LeaderEpoch: random.Int32N(9) - 1, Metadata: "m"[:random.IntN(2)]})
		}
		return kindCommit, encodeCommit(group, random.Int64N(1<<42), offsets)
	case n < 17:
		return kindDeleteOffsets, encodePartitions(group, partitions)
	case n < 19:
		return kindDeleteGroup, encodeName(group)
	case n < 20:
		return kindForgetTopic, encodeTopic(topic)
	default:
		return kindCount, []byte{bodyVersion}
	}
}

// durable is what a coordinator has applied.
func durable(c *Coordinator) map[string]map[Partition]Offset {
	all := make(map[string]map[Partition]Offset)
	for name, g := range c.groups {
		all[name] = g.offsets
	}
	return all
}

// A coordinator that was restored is the one that applied everything, at each
// place of the log and afterwards.
func TestSnapshot(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 3))
		c, fork := New(Options{}), New(Options{})
		for range 200 {
			kind, body := randomEntry(random)
			if err := errors.Join(c.Apply(kind, body), fork.Apply(kind, body)); err != nil {
				t.Fatal(err)
			}
			snapshot := c.Snapshot()
			if !bytes.Equal(snapshot, fork.Snapshot()) || len(durable(c)) != len(durable(fork)) {
				t.Fatalf("seed %d: the same entries make another state", seed)
			}
			sameHistory(t, c, fork)
			if random.IntN(20) > 0 {
				continue
			}
			if random.IntN(2) == 0 {
				fork = New(Options{}) // else over what it holds already
			}
			if err := fork.Restore(snapshot); err != nil || !bytes.Equal(fork.Snapshot(), snapshot) {
				t.Fatalf("seed %d: restore: %v", seed, err)
			}
		}
	}
}

// sameHistory checks that what is current is at the same offsets for the readers of
// two coordinators, and that what else they are told is the same.
func sameHistory(t *testing.T, a, b *Coordinator) {
	t.Helper()
	for p := range int32(OffsetsPartitions) {
		ha, hb := &a.history.parts[p], &b.history.parts[p]
		ca, cb := a.currentFrom(p, 0, ha.next), b.currentFrom(p, 0, hb.next)
		if ha.next != hb.next || !slices.EqualFunc(ca, cb, sameChange) {
			t.Fatalf("partition %d: %d %+v, %d %+v", p, ha.next, ca, hb.next, cb)
		}
		for i, x := range ca {
			if i > 0 && x.at == ca[i-1].at {
				t.Fatalf("partition %d: two commits at %d", p, x.at)
			}
		}
		from := max(ha.oldest, hb.oldest)
		recent := func(x change) bool { return x.at < from }
		la, lb := slices.DeleteFunc(slices.Clone(ha.changes), recent), slices.DeleteFunc(slices.Clone(hb.changes), recent)
		if !slices.EqualFunc(la, lb, sameChange) {
			t.Fatalf("partition %d from %d on: %+v, %+v", p, from, la, lb)
		}
	}
}

func sameChange(a, b change) bool {
	return a.at == b.at && a.kind == b.kind && a.group == b.group && a.Partition == b.Partition && a.Offset.Offset == b.Offset.Offset
}

// The order of the entries, and what was undone, leaves no trace.
func TestSnapshotIsCanonical(t *testing.T) {
	a, b := New(Options{}), New(Options{})
	one := encodeCommit("g", 1, []Offset{{Partition: Partition{[16]byte{1}, 0}, Offset: 5}})
	two := encodeCommit("h", 2, []Offset{{Partition: Partition{[16]byte{1}, 1}, Offset: 6}})
	err := errors.Join(a.Apply(kindCommit, one), a.Apply(kindCommit, two),
		b.Apply(kindCommit, encodeCommit("none", 2, nil)), b.Apply(kindCommit, two), b.Apply(kindCommit, one),
		b.Apply(kindForgetTopic, encodeTopic([16]byte{1})), b.Apply(kindCommit, one), b.Apply(kindCommit, two))
	if err != nil || !bytes.Equal(a.Snapshot(), b.Snapshot()) {
		t.Errorf("%x, %x, %v", a.Snapshot(), b.Snapshot(), err)
	}
	want := "\x01\x02" +
		"\x01g\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x0a\x00\x00\x02" +
		"\x01h\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\x0c\x00\x00\x04"
	if got := string(a.Snapshot()); got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	if err := a.Restore(nil); err != nil || len(a.groups) != 0 || !bytes.Equal(a.Snapshot(), []byte{bodyVersion, 0}) {
		t.Errorf("%v: %+v", err, a.groups)
	}
}

// Members are not in a snapshot, and outlive a Restore.
func TestSnapshotWithoutMembers(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		_, g := w.stable(2)
		if got := w.Snapshot(); !bytes.Equal(got, []byte{bodyVersion, 0}) {
			t.Errorf("%x", got)
		}
		from := New(Options{})
		w.want(from.Apply(kindCommit, encodeCommit(name, 1, []Offset{{Offset: 7}})), nil)
		w.want(w.Restore(from.Snapshot()), nil)
		synctest.Wait()
		w.state(Stable, g, 2)
		if all, err := w.Offsets(name, nil); err != nil || len(all) != 1 || all[0].Offset != 7 {
			t.Errorf("%+v %v", all, err)
		}
	})
}

func damageable() []byte {
	c := New(Options{})
	for i := range int32(3) {
		offsets := []Offset{
			{Partition: Partition{[16]byte{1}, 130 + i}, Offset: 1 << 20, LeaderEpoch: 3, Metadata: "meta"},
			{Partition: Partition{[16]byte{2}, i}, Offset: 9, LeaderEpoch: -1},
		}
		if err := c.Apply(kindCommit, encodeCommit(fmt.Sprint("g", i%2), 1000, offsets)); err != nil {
			panic(err)
		}
	}
	return c.Snapshot()
}

// counted is a snapshot of a log with an offsets topic.
func counted() []byte {
	c := New(Options{})
	err := errors.Join(c.Restore(damageable()), c.Apply(kindCount, []byte{bodyVersion}),
		c.Apply(kindCommit, encodeCommit("g", 1, []Offset{{Partition: Partition{[16]byte{1}, 0}, Offset: 5}})))
	if err != nil {
		panic(err)
	}
	return c.Snapshot()
}

func TestRestoreRefuses(t *testing.T) {
	restoreRefuses(t, damageable())
	restoreRefuses(t, counted())
}

func restoreRefuses(t *testing.T, body []byte) {
	t.Helper()
	for n := 1; n < len(body); n++ {
		if err := New(Options{}).Restore(body[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for i := range body {
		for bit := range 8 {
			damaged := slices.Clone(body)
			damaged[i] ^= 1 << bit
			strict(t, damaged)
		}
	}
	c := New(Options{})
	if err := c.Restore(body); err != nil {
		t.Fatal(err)
	}
	if err := c.Restore(append(slices.Clone(body), 0)); !errors.Is(err, ErrCorrupt) || !bytes.Equal(c.Snapshot(), body) {
		t.Errorf("a byte behind: %v", err)
	}
}

// strict fails if a snapshot is restored that is not canonical.
func strict(t *testing.T, body []byte) {
	t.Helper()
	c := New(Options{})
	if err := c.Restore(body); err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	} else if len(body) > 0 && !bytes.Equal(c.Snapshot(), body) {
		t.Fatalf("%x is restored and becomes %x", body, c.Snapshot())
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{bodyVersion, 0})
	f.Add(counted())
	f.Add(damageable())
	f.Fuzz(func(t *testing.T, body []byte) { strict(t, body) })
}
