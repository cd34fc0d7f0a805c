package state

import (
	"bytes"
	"slices"
	"testing"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/storage/weir"
)

func apply(t testing.TB, s *State, kind uint16, body []byte) *Changes {
	t.Helper()
	changes, err := s.Apply(kind, body)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

// topic is the topic of the vhost of the tests.
func topic() weir.TopicID { return weir.TopicID{1, 2, 3} }

// newState returns a State with the vhost v and queues with these settings, whose ids are
// 1, 2 and so on.
func newState(t testing.TB, settings ...Settings) (*State, *Vhost) {
	t.Helper()
	s := New()
	all := []Declaration{{CreateVhost: &VhostCreated{topic()}}}
	for i := range settings {
		all = append(all, Declaration{Queue: &QueueDeclared{string(rune('a' + i)), settings[i]}})
	}
	changes := apply(t, s, KindDeclare, EncodeDeclare("v", all))
	if len(changes.Created) != len(settings) {
		t.Fatalf("%+v", changes)
	}
	return s, s.Vhost("v")
}

func plain() Settings { return Settings{TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1} }

// same fails the test unless the State can be restored from its snapshot.
func same(t testing.TB, s *State) *State {
	t.Helper()
	body := s.Snapshot()
	r := New()
	if err := r.Restore(body); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Snapshot(), body) {
		t.Fatal("another snapshot after Restore")
	}
	return r
}

func TestLife(t *testing.T) {
	s, v := newState(t, plain(), plain())
	a, b := v.Queue("a"), v.ids[2]
	changes := apply(t, s, KindPublish, (&Published{Vhost: topic(), Base: 10, Groups: []Group{
		{Count: 1000, Queues: []QueueID{1, 2}, Lent: []QueueID{2}, Bytes: 5000},
		{Count: 5, Queues: []QueueID{1, 77}, Bytes: 50},
	}}).Append(nil))
	if !slices.Equal(changes.Filled, []*Queue{a, b}) || a.Len() != 1005 || b.Len() != 1000 || a.Bytes() != 5050 || a.Lent() != -1 || b.Lent() != 1009 || v.End() != 1015 {
		t.Fatalf("%+v, %d and %d", changes, a.Len(), b.Len())
	}
	changes = apply(t, s, KindSettle, (&Settled{Vhost: topic(), Queues: []QueueSettled{
		{ID: 1, Gone: []Range{{10, 19}, {30, 30}}, Bytes: 55, Counted: []Range{{20, 25}, {2000, 3000}}, Lent: 40},
		{ID: 9, Gone: []Range{{10, 19}}},
	}}).Append(nil))
	if !slices.Equal(changes.Settled, []*Queue{a}) || a.Len() != 994 || a.Bytes() != 4995 || a.Lent() != 40 || a.Has(30) || !a.Has(29) || a.Count(25) != 1 || a.Count(26) != 0 {
		t.Fatalf("%+v, %d", changes, a.Len())
	}
	if v.Floor() != 10 {
		t.Error(v.Floor())
	}
	apply(t, s, KindEpoch, EncodeEpoch())
	if a.Count(25) != 2 || a.Count(40) != 1 || a.Count(41) != 0 || a.uncertain() != 40 || a.Lent() != -1 || b.Count(1009) != 1 {
		t.Errorf("%d %d %d", a.Count(25), a.Count(40), a.Count(41))
	}
	r := same(t, s)
	if q := r.VhostOf(topic()).Queue("a"); q.Count(25) != 2 || q.Len() != 994 || q.uncertain() != 40 {
		t.Errorf("%+v", q)
	}
	apply(t, s, KindSettle, (&Settled{Vhost: topic(), Queues: []QueueSettled{
		{ID: 1, Gone: []Range{{0, 20}, {23, 1011}}, Bytes: 4900, Lent: -1},
	}}).Append(nil))
	changes = apply(t, s, KindDeclare, EncodeDeclare("v", []Declaration{
		{Exchange: &routing.Exchange{Name: "x", Type: routing.Headers, AutoDelete: true}},
		{Bind: &routing.Binding{Source: "x", Destination: "b", Match: routing.Match{Mode: routing.Any, Headers: []routing.Header{{Name: "h", Value: routing.IntValue(3)}}}}},
	}))
	if !slices.Equal(changes.Results, []error{nil, nil}) {
		t.Errorf("refused: %v", changes.Results)
	}
	if got := slices.Collect(a.Waiting(0)); !slices.Equal(got, []int64{21, 22, 1012, 1013, 1014}) || a.Bytes() != 95 || a.Count(21) != 2 {
		t.Errorf("%v", got)
	}
	same(t, s)
	changes = apply(t, s, KindDeclare, EncodeDeclare("v", []Declaration{{DeleteQueue: &QueueDeleted{ID: 2}}, {DeleteQueue: &QueueDeleted{ID: 2}}, {DeleteQueue: &QueueDeleted{ID: 1, IfEmpty: true}}}))
	if !slices.Equal(changes.Results, []error{nil, ErrNoQueue, ErrNotEmpty}) || !slices.Equal(changes.Deleted, []*Queue{b}) {
		t.Errorf("%+v", changes)
	}
	if _, err := v.Table.Lookup("x"); err == nil {
		t.Error("an exchange that deletes itself outlives its last binding")
	}
	changes = apply(t, s, KindDeclare, EncodeDeclare("v", []Declaration{{DeleteVhost: true}, {DeleteVhost: true}}))
	if !slices.Equal(changes.Results, []error{nil, ErrNoVhost}) || len(changes.DeletedVhosts) != 1 || !slices.Equal(changes.Deleted, []*Queue{a}) || s.Snapshot() != nil {
		t.Errorf("%+v", changes)
	}
}
