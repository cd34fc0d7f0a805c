package group

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestMayCommit(t *testing.T) {
	run(t, Options{MaxGroups: 1}, func(t *testing.T, w world) {
		may := func(group string, generation int32, who Identity) error {
			_, err := w.MayCommit(CommitRequest{Group: group, Generation: generation, Identity: who, Offsets: []Offset{{Offset: 1}}})
			return err
		}
		w.want(may("", -1, Identity{}), ErrInvalidGroup)
		w.want(may("other", 3, Identity{}), ErrIllegalGeneration)
		w.want(may("other", -1, Identity{}), nil)
		members, g := w.stable(2)
		w.want(may("other", -1, Identity{}), ErrTooManyGroups)
		w.want(may(name, g, Identity{Member: members[0]}), nil)
		w.want(may(name, g-1, Identity{Member: members[0]}), ErrIllegalGeneration)
		w.want(may(name, -1, Identity{Member: members[0]}), ErrIllegalGeneration)
		w.want(may(name, g, Identity{Member: "nobody"}), ErrUnknownMember)
		w.want(may(name, g, Identity{Member: members[0], Instance: "static"}), ErrUnknownMember)
		w.want(may(name, -1, Identity{}), nil) // clients that do not say

		// A rebalance in progress does not matter, except to a member that was removed.
		w.join(ask(members[0]))
		w.want(may(name, g, Identity{Member: members[1]}), nil)

		errs, err := w.MayCommit(CommitRequest{Group: name, Generation: g, Identity: Identity{Member: members[1]}, Offsets: []Offset{
			{Metadata: strings.Repeat("m", 4096)}, {Metadata: strings.Repeat("m", 4097)},
		}})
		if err != nil || errs[0] != nil || !errors.Is(errs[1], ErrMetadataTooLarge) {
			t.Errorf("%v, %v", errs, err)
		}
		w.want(w.Close(), nil)
		w.want(may(name, -1, Identity{}), ErrClosed)
	})
}

func TestCommitEntry(t *testing.T) {
	want := []Offset{
		{Partition: Partition{[16]byte{1}, 2}, Offset: 3, LeaderEpoch: -1, Metadata: "m", CommittedAt: 9},
		{Partition: Partition{[16]byte{1}, 3}, Offset: 4, LeaderEpoch: 5, CommittedAt: 9},
	}
	kind, body := CommitEntry("g", 9, want)
	name, got, err := DecodeCommit(body)
	if err != nil || kind != kindCommit || name != "g" || !slices.Equal(got, want) {
		t.Errorf("%s %v, %v", name, got, err)
	}
	for _, damaged := range [][]byte{nil, {2}, body[:len(body)-1], append(slices.Clone(body), 0)} {
		if _, _, err := DecodeCommit(damaged); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%x: %v", damaged, err)
		}
	}
}
