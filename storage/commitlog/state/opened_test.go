package state

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// at is a position of the catalogue.
func at(slot uint64) journal.Position { return journal.Position{Epoch: 2, Slot: slot} }

// openedAt says what a topic with so many partitions is at a position.
func openedAt(slot uint64, partitions int32, configs map[string]string) journal.Entry {
	t := testTopic
	t.Partitions, t.Configs = partitions, configs
	return journal.Entry{Kind: KindTopicOpened, Body: EncodeTopicOpened(t, at(slot))}
}

func droppedAt(slot uint64) journal.Entry {
	return journal.Entry{Kind: KindTopicDropped, Body: EncodeTopicDropped(testTopic.ID, at(slot))}
}

func forgottenAt(slot uint64) journal.Entry {
	return journal.Entry{Kind: KindDroppedForgotten, Body: EncodeDroppedForgotten([]weir.TopicID{testTopic.ID}, at(slot))}
}

func deleting() journal.Entry {
	return journal.Entry{Kind: KindTopicDeleting, Body: EncodeTopicDeleting(testTopic.ID)}
}

// applied is the state that entries make, one slot each.
func applied(entries ...journal.Entry) (*State, error) {
	s := Empty()
	for i, e := range entries {
		if err := s.Apply(journal.Position{Epoch: 1, Slot: uint64(1 + i)}, e); err != nil {
			return s, err
		}
	}
	return s, nil
}

// What a shard opens is what the newest position says, whatever comes late.
func TestOpened(t *testing.T) {
	s, err := applied(openedAt(5, 2, nil), openedAt(9, 3, map[string]string{"k": "new"}), openedAt(7, 2, map[string]string{"k": "late"}))
	must(err)
	topic := s.Topics[testTopic.ID]
	if topic.Partitions != 3 || len(topic.Parts) != 3 || topic.Configs["k"] != "new" || topic.Opened != at(9) || s.Catalogue != at(9) {
		t.Errorf("%+v at %v, catalogue at %v", topic.Topic, topic.Opened, s.Catalogue)
	}
	decoded(t, s)

	must(s.Apply(journal.Position{Epoch: 1, Slot: 9}, droppedAt(12)))
	if len(s.Topics) != 0 || len(s.Names) != 0 || s.Dropped[testTopic.ID] != at(12) || s.Catalogue != at(12) {
		t.Errorf("dropped: %+v, %v", s.Topics, s.Dropped)
	}
	decoded(t, s)
	must(s.Apply(journal.Position{Epoch: 1, Slot: 10}, forgottenAt(20)))
	if len(s.Dropped) != 0 || s.Catalogue != at(20) {
		t.Errorf("forgotten: %v at %v", s.Dropped, s.Catalogue)
	}
	if back := decoded(t, s); back.Catalogue != at(20) {
		t.Errorf("the position is forgotten, too: %v", back.Catalogue)
	}
}

// A topic that is being deleted keeps its name, and its data, until it is deleted.
func TestDeleting(t *testing.T) {
	s, err := applied(created(), deleting())
	must(err)
	want := []Deletion{{s.Topics[testTopic.ID].Topic, journal.Position{Epoch: 1, Slot: 2}}}
	if got := s.Deletions(); !reflect.DeepEqual(got, want) || s.Names[testTopic.Name] == nil {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := decoded(t, s).Deletions(); !reflect.DeepEqual(got, want) {
		t.Errorf("from a checkpoint: %+v", got)
	}
	if s.Before(journal.Position{Epoch: 1, Slot: 2}) || !s.Before(journal.Position{Epoch: 1, Slot: 3}) {
		t.Error("the deletion is not before the slot that follows it")
	}
	must(s.Apply(journal.Position{Epoch: 1, Slot: 3}, journal.Entry{Kind: KindTopicDeleted, Body: EncodeTopicDeleted(testTopic.ID)}))
	if len(s.Deletions()) > 0 || len(s.Names) > 0 || s.hasOpened() {
		t.Errorf("deleted: %+v", s.Topics)
	}
}

// Each rule is an error when the log breaks it.
func TestOpenedRules(t *testing.T) {
	other := testTopic
	other.Name = "u"
	zero := EncodeTopicOpened(testTopic, journal.Position{})
	for name, c := range map[string]struct {
		entries []journal.Entry
		want    string
	}{
		"deleting nothing":    {[]journal.Entry{deleting()}, "does not exist"},
		"deleting twice":      {[]journal.Entry{created(), deleting(), deleting()}, "twice"},
		"opened when dropped": {[]journal.Entry{openedAt(3, 1, nil), droppedAt(5), openedAt(9, 1, nil)}, "was dropped"},
		"dropped unopened":    {[]journal.Entry{droppedAt(5), openedAt(3, 1, nil)}, "was dropped"},
		"opened nowhere":      {[]journal.Entry{{Kind: KindTopicOpened, Body: zero}}, "without a position"},
		"dropped nowhere":     {[]journal.Entry{{Kind: KindTopicDropped, Body: EncodeTopicDropped(testTopic.ID, journal.Position{})}}, "without a position"},
		"fewer partitions":    {[]journal.Entry{openedAt(3, 2, nil), openedAt(4, 1, nil)}, "becomes"},
		"another name":        {[]journal.Entry{openedAt(3, 2, nil), {Kind: KindTopicOpened, Body: EncodeTopicOpened(other, at(4))}}, "becomes"},
		"taken name":          {[]journal.Entry{openedAt(3, 2, nil), {Kind: KindTopicOpened, Body: EncodeTopicOpened(Topic{ID: weir.TopicID{9}, Name: "t", Partitions: 1}, at(4))}}, "created twice"},
		"forgotten too soon":  {[]journal.Entry{droppedAt(5), forgottenAt(5)}, "forgotten"},
		"forgotten unknown":   {[]journal.Entry{forgottenAt(5)}, "forgotten"},
	} {
		if _, err := applied(c.entries...); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := applied(droppedAt(5), forgottenAt(6), openedAt(9, 1, nil)); err != nil {
		t.Errorf("a log is not broken by what its owner must not do: %v", err)
	}
}

// goldenOpened has one of everything that a cluster with several shards adds.
func goldenOpened() *State {
	s := goldenState()
	s.Identity = &Identity{Level: 2, Cluster: "cl", Sums: []Sum{{Key: "cluster", CRC: 0x01020304}}}
	id := weir.TopicID([]byte("0123456789abcdef"))
	s.Topics[id].Opened, s.Topics[id].Deleting = at(300), journal.Position{Epoch: 2, Slot: 5}
	s.Dropped[weir.TopicID([]byte("fedcba9876543210"))] = at(7)
	s.Catalogue = journal.Position{Epoch: 3, Slot: 1}
	return s
}

// The bytes at rest do not change by accident.
func TestGoldenOpened(t *testing.T) {
	id := weir.TopicID([]byte("0123456789abcdef"))
	topic := Topic{ID: id, Name: "ab", Partitions: 3, Created: 256}
	two, five := "\x00\x00\x00\x00\x00\x00\x00\x02", "\x00\x00\x00\x00\x00\x00\x00\x05"
	for name, c := range map[string]struct{ got, want string }{
		"deleting":  {string(EncodeTopicDeleting(id)), "\x010123456789abcdef"},
		"opened":    {string(EncodeTopicOpened(topic, at(5))), "\x01" + two + five + string(EncodeTopicCreated(topic))},
		"dropped":   {string(EncodeTopicDropped(id, at(5))), "\x010123456789abcdef" + two + five},
		"forgotten": {string(EncodeDroppedForgotten([]weir.TopicID{id}, at(5))), "\x01" + two + five + "\x00\x00\x00\x01" + "0123456789abcdef"},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", name, c.got, c.want)
		}
	}
	s := goldenOpened()
	closed := goldenState()
	closed.Identity = s.Identity
	before := closed.encode() // which ends with the identity
	identity := string(s.Identity.append(nil))
	want := "\x05" + string(before[1:len(before)-len(identity)]) + "\x01" + identity + "\x03\x01" +
		"\x01\x00\x02\xac\x02" + "\x01\x00\x02\x05" + "\x01fedcba9876543210\x02\x07"
	if got := string(s.encode()); got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	decoded(t, s)
	s.Identity = nil
	decoded(t, s)
}
