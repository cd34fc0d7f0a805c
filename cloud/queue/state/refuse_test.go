package state

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/storage/weir"
)

// TestApplyRefuses: entries that no engine writes.
func TestApplyRefuses(t *testing.T) {
	head := append([]byte{bodyVersion}, make([]byte, 16)...)
	copy(head[1:], []byte{1, 2, 3})
	published := func(p Published) []byte {
		p.Vhost = topic()
		return p.Append(nil)
	}
	body := func(parts ...uint64) []byte {
		b := slices.Clone(head)
		for _, p := range parts {
			b = binary.AppendUvarint(b, p)
		}
		return b
	}
	for name, x := range map[string]struct {
		kind uint16
		body []byte
	}{
		"no such kind":                 {185, []byte{bodyVersion}},
		"no body":                      {KindEpoch, nil},
		"another version":              {KindEpoch, []byte{2}},
		"more than an epoch":           {KindEpoch, []byte{bodyVersion, 0}},
		"offsets twice":                {KindPublish, published(Published{Base: 99, Groups: []Group{{Count: 1}}})},
		"no offsets":                   {KindPublish, published(Published{Base: maxOffset, Groups: []Group{{Count: 2}}})},
		"many messages":                {KindPublish, published(Published{Base: 100, Groups: []Group{{Count: maxPublish}, {Count: 1}}})},
		"a special message too many":   {KindPublish, published(Published{Base: 100, Groups: []Group{{Count: 2}}, Special: []Special{{Index: 2, Priority: 1}}})},
		"a special message like all":   {KindPublish, body(100, 1, 1, 0, 0, 1, 0, 0)},
		"an unknown flag of one":       {KindPublish, body(100, 1, 1, 0, 0, 1, 0, 8)},
		"ranges beyond the offsets":    {KindSettle, body(1, 1, 0, 0, 0, 1, maxOffset, 1, 0)},
		"messages beyond the offsets":  {KindSettle, body(0, 2, maxOffset, 0)},
		"less than it says":            {KindSettle, body(2)},
		"a partition beyond":           {KindPosition, append(append(body(0, 1), make([]byte, 16)...), 0xff, 0xff, 0xff, 0xff, 0x0f, 0)},
		"no declaration":               {KindDeclare, []byte{bodyVersion, 1, 'v', 1, 0}},
		"neither a queue nor exchange": {KindDeclare, []byte{bodyVersion, 1, 'v', 1, declareBind, 2, 0, 0, 0, 0, 0, 0}},
		"an unknown flag of a queue":   {KindDeclare, []byte{bodyVersion, 1, 'v', 1, declareQueue, 1, 'q', 128, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		"a key without dead letters":   {KindDeclare, []byte{bodyVersion, 1, 'v', 1, declareQueue, 1, 'q', 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		"an unknown overflow":          {KindDeclare, []byte{bodyVersion, 1, 'v', 1, declareQueue, 1, 'q', 0, 3, 0, 0, 0, 0, 0, 0, 0, 0}},
		"an unknown flag of exchanges": {KindDeclare, []byte{bodyVersion, 1, 'v', 1, declareExchange, 8, 1, 'x', 6, 'd', 'i', 'r', 'e', 'c', 't', 0, 0, 0, 0, 0}},
	} {
		s, _ := newState(t, plain())
		publish(t, s, Group{Count: 100, Queues: []QueueID{1}})
		if _, err := s.Apply(x.kind, x.body); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGone: what entries say of vhosts and queues that are not there changes nothing.
func TestGone(t *testing.T) {
	s, _ := newState(t, plain())
	before := s.Snapshot()
	other := weir.TopicID{7}
	for _, body := range [][]byte{
		(&Published{Vhost: other, Base: 3, Groups: []Group{{Count: 3, Queues: []QueueID{1}}}, Special: []Special{{Index: 1, NotBefore: 5}}}).Append(nil),
		(&Published{Vhost: topic(), Base: 3, Groups: []Group{{Queues: []QueueID{1}, Lent: []QueueID{1}, Bytes: 7}}}).Append(nil),
	} {
		apply(t, s, KindPublish, body)
	}
	apply(t, s, KindSettle, (&Settled{Vhost: other, Queues: []QueueSettled{{ID: 1, Lent: 7}}, Undelayed: []int64{1}}).Append(nil))
	apply(t, s, KindSettle, (&Settled{Vhost: topic(), Queues: []QueueSettled{{ID: 2, Lent: 7}}, Undelayed: []int64{1}}).Append(nil))
	apply(t, s, KindPosition, EncodePositions(other, "r", []Position{{Offset: 3}}))
	apply(t, s, KindPosition, EncodePositions(topic(), "r", []Position{{Offset: -1}}))
	if string(s.Snapshot()) != string(before) {
		t.Error("the state has changed")
	}
	changes := apply(t, s, KindDeclare, EncodeDeclare("none", []Declaration{{DeleteVhost: true}, {Exchange: &routing.Exchange{Name: "x", Type: routing.Direct}}}))
	if !slices.Equal(changes.Results, []error{ErrNoVhost, ErrNoVhost}) || changes.Vhost != "none" {
		t.Errorf("%+v", changes)
	}
	changes = apply(t, s, KindDeclare, EncodeDeclare("w", []Declaration{{CreateVhost: &VhostCreated{topic()}}}))
	if !slices.Equal(changes.Results, []error{ErrExists}) {
		t.Errorf("a topic of two vhosts: %+v", changes)
	}
	changes = apply(t, s, KindDeclare, EncodeDeclare("v", []Declaration{
		{Exchange: &routing.Exchange{Name: "x", Type: routing.Direct}},
		{Bind: &routing.Binding{Source: "x", Destination: "a"}},
		{DeleteExchange: &ExchangeDeleted{"x", true}},
		{Bind: &routing.Binding{Source: "x", Destination: "none"}},
		{DeleteExchange: &ExchangeDeleted{"x", false}},
	}))
	if r := changes.Results; r[0] != nil || r[1] != nil || !errors.Is(r[2], routing.ErrInUse) || !errors.Is(r[3], routing.ErrNotFound) || r[4] != nil {
		t.Errorf("%+v", changes)
	}
	if _, err := s.Vhost("v").Table.Lookup("x"); err == nil {
		t.Error("x is not deleted")
	}
	same(t, s)
}

// TestEpochs: each epoch that ends counts, also when the same was lent; what arrived
// meanwhile does not.
func TestEpochs(t *testing.T) {
	s, v := newState(t, plain())
	q := v.Queue("a")
	settle := func(x QueueSettled, undelayed ...int64) {
		t.Helper()
		x.ID = 1
		apply(t, s, KindSettle, (&Settled{Vhost: topic(), Queues: []QueueSettled{x}, Undelayed: undelayed}).Append(nil))
	}
	publish(t, s, Group{Count: 10, Queues: []QueueID{1}, Lent: []QueueID{1}})
	apply(t, s, KindEpoch, EncodeEpoch())
	settle(QueueSettled{Lent: 9})
	apply(t, s, KindEpoch, EncodeEpoch())
	apply(t, s, KindEpoch, EncodeEpoch()) // nothing was lent in between
	if q.Count(9) != 2 || q.uncertain() != 9 {
		t.Errorf("count %d, up to %d", q.Count(9), q.uncertain())
	}
	s = same(t, s)
	q = s.Vhost("v").Queue("a")
	settle(QueueSettled{Lent: 50}) // more than there is
	publish(t, s, Group{Count: 10, Queues: []QueueID{1}, Lent: []QueueID{1}})
	if q.Lent() != 50 {
		t.Errorf("lent up to %d", q.Lent())
	}
	apply(t, s, KindEpoch, EncodeEpoch())
	publish(t, s, Group{Count: 10, Queues: []QueueID{1}})
	if q.Count(9) != 3 || q.Count(19) != 1 || q.Count(20) != 0 || q.uncertain() != 19 {
		t.Errorf("counts %d, %d and %d, up to %d", q.Count(9), q.Count(19), q.Count(20), q.uncertain())
	}
	settle(QueueSettled{Gone: []Range{{0, 19}}, Lent: -1})
	if q.uncertain() != -1 || q.Len() != 10 {
		t.Errorf("up to %d of %d", q.uncertain(), q.Len())
	}
	apply(t, s, KindPublish, (&Published{Vhost: topic(), Base: 30, Groups: []Group{{Count: 3}}, Special: []Special{{Index: 0, NotBefore: 1}, {Index: 2, NotBefore: 1}}}).Append(nil))
	settle(QueueSettled{Lent: -1}, 32, 30, 32)
	if n := s.Vhost("v").Delayed(); n != 0 {
		t.Errorf("%d are delayed", n)
	}
}
