package kafka

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// stalling is a tunnel whose answers are late while the test says so.
type stalling struct {
	io.ReadWriteCloser
	p *twoOwners
}

func (s stalling) Read(b []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(b)
	if open := s.p.stalled.Load(); open != nil {
		<-*open
	}
	return n, err
}

// stall holds back what node a answers, until resume is called.
func (p *twoOwners) stall() (resume func()) {
	open := make(chan struct{})
	p.stalled.Store(&open)
	resume = sync.OnceFunc(func() {
		p.stalled.Store(nil)
		close(open)
	})
	p.t.Cleanup(resume)
	return resume
}

// TestHereOwnerCatchesUp: an owner that is late is left out of the answers, for no longer than
// it is late: the tunnel to it stays, and what it answers late is dropped. Meanwhile it holds
// up requests of any kind only for a moment.
func TestHereOwnerCatchesUp(t *testing.T) {
	p, d, topic, ofA, _ := spreadTopic(t, Options{LateTime: 10 * time.Millisecond, AnswerTime: 10 * time.Millisecond})
	group := "g"
	for i := 0; p.a.broker.RouteOf(weir.SliceOfGroup(group)) != 1; i++ {
		group = fmt.Sprint("g", i)
	}
	c := d.dial(t)
	resume := p.stall()
	for range 3 {
		for _, part := range ask[*kmsg.FetchResponse](c, fromAll(topic, time.Millisecond)).Topics[0].Partitions {
			if slices.Contains(ofA, part.Partition) && part.ErrorCode != kerr.NotLeaderForPartition.Code {
				t.Errorf("partition %d: error %d", part.Partition, part.ErrorCode)
			}
		}
	}
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Version, beat.Group, beat.MemberID = 4, group, "m"
	for range 3 {
		expect(t, "heartbeat", ask[*kmsg.HeartbeatResponse](c, beat).ErrorCode, kerr.NotCoordinator)
	}
	resume()
	eventually(t, func() bool {
		all := ask[*kmsg.FetchResponse](c, fromAll(topic, time.Millisecond)).Topics[0].Partitions
		return !slices.ContainsFunc(all, func(p kmsg.FetchResponseTopicPartition) bool { return p.ErrorCode != 0 })
	})
	eventually(t, func() bool {
		return ask[*kmsg.HeartbeatResponse](c, beat).ErrorCode == kerr.UnknownMemberID.Code
	})
	if n := p.opened.Load(); n != 1 {
		t.Errorf("%d tunnels to the owner that was late, want the one", n)
	}
}

// TestHereShareReopened: when a member opens its share session anew, or an owner of some of
// its partitions is late, the sessions with the owners end, and other members get what it had.
func TestHereShareReopened(t *testing.T) {
	for name, leave := range map[string]func(p *twoOwners, m *hereSharer, a, b int32){
		"opened anew": func(_ *twoOwners, m *hereSharer, _, b int32) {
			m.epoch = openShare
			m.fetch(b)
		},
		"late": func(p *twoOwners, m *hereSharer, a, b int32) {
			resume := p.stall()
			if code := m.fetch(a, b)[a].ErrorCode; code != kerr.NotLeaderForPartition.Code {
				m.t.Errorf("the partition of the owner that is late: error %d", code)
			}
			resume()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, d, topic, ofA, ofB := spreadTopic(t, Options{LateTime: 100 * time.Millisecond})
			w := d.dial(t)
			m, n := &hereSharer{wire: d.dial(t), topic: topic, member: "m"}, &hereSharer{wire: d.dial(t), topic: topic, member: "n"}
			eventually(t, func() bool { // the group begins with what comes after its first fetch
				ask[*kmsg.ProduceResponse](w, toPartition(topic, ofA[0], batchOf(t, record.None, "x")))
				return len(m.fetch(ofA[0])[ofA[0]].AcquiredRecords) > 0
			})
			leave(p, m, ofA[0], ofB[0])
			eventually(t, func() bool { // long before its time to acknowledge is over
				got := n.fetch(ofA[0])[ofA[0]].AcquiredRecords
				return len(got) > 0 && got[0].DeliveryCount == 2
			})
		})
	}
}

// hereSharer is a member of group g at a node that passes requests on.
type hereSharer struct {
	*wire
	topic  broker.Topic
	member string
	epoch  int32
}

// fetch fetches once. The session has the partitions, and those that it had.
func (m *hereSharer) fetch(partitions ...int32) map[int32]kmsg.ShareFetchResponseTopicPartition {
	m.t.Helper()
	q := kmsg.NewPtrShareFetchRequest()
	q.Version, q.GroupID, q.MemberID, q.ShareSessionEpoch, q.MaxWaitMillis, q.MaxBytes, q.MaxRecords = 2, kmsg.StringPtr("g"), &m.member, m.epoch, 10, 1<<20, 100
	qt := kmsg.ShareFetchRequestTopic{TopicID: m.topic.ID}
	for _, i := range partitions {
		qt.Partitions = append(qt.Partitions, kmsg.ShareFetchRequestTopicPartition{Partition: i})
	}
	q.Topics = append(q.Topics, qt)
	m.epoch++
	r := ask[*kmsg.ShareFetchResponse](m.wire, q)
	expect(m.t, "share fetch", r.ErrorCode, nil)
	all := make(map[int32]kmsg.ShareFetchResponseTopicPartition)
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			all[p.Partition] = p
		}
	}
	return all
}

// TestHereLateShareSessions: what waits for an owner that is late does not grow with the
// requests of a member, and a session that it has there is ended once.
func TestHereLateShareSessions(t *testing.T) {
	owner := &tunnel{wake: make(chan struct{}, 1), late: 1}
	r := &request{conn: &conn{s: new(Server), relay: &relay{tunnels: map[string]*tunnel{"a": owner}}}}
	for epoch, want := range map[int32]int{openShare: 0, 5: 1} {
		sp := &spread{&share.Session{Group: "g", Member: "m"}, make(map[string]*shareAt)}
		sp.with(r.conn.relay, broker.Node{Name: "a"}).epoch = epoch
		for range 3 {
			p := newShareParts(r, sp, "g")
			p.nodes = []broker.Node{{Name: "a"}}
			asked := gathering{r: r, parts: p.fetches(kmsg.NewPtrShareFetchRequest(), 1)}
			if err := asked.run(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if err := (&merging{p: p, resp: kmsg.NewPtrShareFetchResponse()}).takeAll(&asked); err != nil {
				t.Fatal(err)
			}
		}
		if len(owner.unsent) != want {
			t.Errorf("session at epoch %d: %d requests wait, want %d", epoch, len(owner.unsent), want)
		}
		owner.unsent, owner.waiting = nil, nil
	}
}

// TestHereLateMemory: of a request whose answer nobody waits for any more, no more is kept than
// what it takes to know that answer.
func TestHereLateMemory(t *testing.T) {
	owner := &tunnel{wake: make(chan struct{}, 1)}
	var got error
	x := &exchange{body: net.Buffers{make([]byte, longRequest)}, done: func(_ []byte, err error) { got = err }}
	owner.send(x)
	owner.next()
	if err := x.write(bufio.NewWriter(io.Discard)); err != nil {
		t.Fatal(err)
	}
	owner.sent(x)
	owner.leave(x)
	if got != errLate {
		t.Errorf("left with %v", got)
	}
	if len(owner.waiting) != 1 || x.body != nil || x.done != nil {
		t.Errorf("%d requests wait; body: %t, done: %t", len(owner.waiting), x.body != nil, x.done != nil)
	}
	if first, left := owner.first(x.correlation); first != x || !left || owner.got(x, nil) {
		t.Error("the answer that is late is passed on")
	}
}
