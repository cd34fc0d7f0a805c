package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
)

// TestKnown: a standby answers from its copy while that is new, and an owner from its
// log alone.
func TestKnown(t *testing.T) {
	b := newBroker(Options{})
	owner := Node{ID: 2, Name: "owner"}
	b.Follow(0, owner, "cluster")
	if _, err := b.KnownTopics(); !errors.Is(err, ErrNotOwner) || b.Copy() != nil || knownEpoch(b) != -1 {
		t.Errorf("without a copy: %v", err)
	}
	c := &Copy{Owner: "owner", Epoch: 9, Asked: time.Now()}
	c.SetTopics([]Topic{{ID: weir.TopicID{2}, Name: "b", Partitions: 2}, {ID: weir.TopicID{1}, Name: "a", Partitions: 1}})
	b.SetCopy(c)
	all, err := b.KnownTopics()
	if err != nil || len(all) != 2 || all[0].Name != "a" || all[1].Name != "b" {
		t.Errorf("%v, %v", all, err)
	}
	if got, err := b.KnownTopic("b"); err != nil || got.Partitions != 2 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := b.KnownTopicByID(weir.TopicID{1}); err != nil || got.Name != "a" {
		t.Errorf("%v, %v", got, err)
	}
	_, byName := b.KnownTopic("c")
	_, byID := b.KnownTopicByID(weir.TopicID{3})
	if !errors.Is(byName, ErrUnknownTopic) || !errors.Is(byID, ErrUnknownTopic) {
		t.Errorf("topics that there are not: %v, %v", byName, byID)
	}
	if knownEpoch(b) != 9 {
		t.Errorf("epoch %d", knownEpoch(b))
	}
	refuseAll(t, b, "with a copy", ErrNotOwner)
	b.Follow(0, Node{ID: 3, Name: "next"}, "cluster")
	if knownEpoch(b) != -1 || b.Copy() == nil {
		t.Errorf("behind a takeover: epoch %d", knownEpoch(b))
	}
	next := *c
	next.SameTopics(c)
	next.Asked = time.Now().Add(-MaxCopyAge - time.Second)
	b.SetCopy(&next)
	if _, err := b.KnownTopic("b"); !errors.Is(err, ErrNotOwner) || b.Copy() != nil || b.LastCopy() == nil {
		t.Errorf("an old copy: %v", err)
	}
	b.SetCopy(c)
	log := lead(t, b, mem.New())
	if _, err := b.KnownTopic("b"); !errors.Is(err, ErrUnknownTopic) || b.Copy() != nil || knownEpoch(b) != log.Epoch() {
		t.Errorf("an owner answers from a copy: %v", err)
	}
	if b.Serving() != nil {
		t.Error("an owner does not serve")
	}
	if b.Doubt(0, true); !errors.Is(b.Serving(), ErrUnavailable) {
		t.Error("an owner in doubt serves")
	}
}

// knownEpoch is the leader epoch of the controller as the broker knows it.
func knownEpoch(b *Broker) int32 {
	l, _ := b.Controller()
	return l.Epoch
}
