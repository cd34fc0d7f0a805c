package kafka

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// nobody is the user of a client without a login.
const nobody = "ANONYMOUS"

// clock advances by a step whenever it is read, and by what a test adds.
type clock struct {
	mu    sync.Mutex
	at    time.Time
	step  time.Duration
	looks map[string]int // by the function of cloud/quota that looks
}

// The functions that tests wait for.
const (
	stands = "(*Stopwatch).stand" // a request waits
	counts = "(*Quotas).take"     // all that its answer tells is known
)

func newClock(step time.Duration) *clock {
	return &clock{at: time.Unix(1_700_000_000, 0), step: step, looks: make(map[string]int)}
}

func (c *clock) now() time.Time {
	var callers [8]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers[:])])
	c.mu.Lock()
	defer c.mu.Unlock()
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		for _, name := range []string{stands, counts} {
			if strings.HasSuffix(f.Function, name) {
				c.looks[name]++
			}
		}
	}
	c.at = c.at.Add(c.step)
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// looked tells how often a function has.
func (c *clock) looked(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.looks[name]
}

// passes sends a request, and lets time pass once the function that is named has
// looked at the clock for it.
func (c *clock) passes(w *wire, q kmsg.Request, name string) {
	w.t.Helper()
	before := c.looked(name)
	w.send(q)
	eventually(w.t, func() bool { return c.looked(name) > before })
	c.add(time.Minute)
}

// percent limits the time of a user's requests.
func (d *door) percent(t testing.TB, user string, of float64) {
	t.Helper()
	if err := d.own.Quotas.Set(t.Context(), quota.Entity{User: user}, func(l *quota.Limits) { l.Request = of }, false); err != nil {
		t.Fatal(err)
	}
}

// mutedUntil is when a client's connection is read from again.
func (d *door) mutedUntil(w *wire) time.Time {
	for c := range d.open() {
		if c.peer == w.nc.LocalAddr().String() {
			return time.Unix(0, c.muted.Load())
		}
	}
	return time.Time{}
}

// isMuted tells whether a client's connection is, for at least so long.
func (d *door) isMuted(w *wire, atLeast time.Duration) bool {
	return time.Until(d.mutedUntil(w)) > atLeast
}

func metadata(w *wire) int32 {
	q := kmsg.NewPtrMetadataRequest()
	q.Version = 12
	return ask[*kmsg.MetadataResponse](w, q).ThrottleMillis
}

// A client that floods the server with requests is slowed down, however cheap each of
// them is. Other clients do not notice, and a client that has not logged in has no
// limit to use up.
func TestRequestTime(t *testing.T) {
	d := secured(t, Options{}, Plain)
	ann, root := d.as(t, "ann"), d.as(t, "root")
	d.percent(t, "ann", 1e-6)
	d.percent(t, "root", 1e6)
	d.percent(t, quota.Default, 1e-9)
	if wait := metadata(ann); wait < 1_000 || !d.isMuted(ann, time.Second) {
		t.Errorf("who asks for too much waits %d ms", wait)
	}
	for range 20 {
		if wait := metadata(root); wait != 0 || d.isMuted(root, 0) {
			t.Fatalf("somebody else waits %d ms", wait)
		}
	}
	if again := d.as(t, "ann"); !d.isMuted(again, time.Second) { // its answer cannot say so
		t.Error("a login costs nothing")
	}
	stranger := d.dial(t)
	for range 3 {
		if r := ask[*kmsg.ApiVersionsResponse](stranger, &kmsg.ApiVersionsRequest{Version: 2}); r.ThrottleMillis != 0 || d.isMuted(stranger, 0) {
			t.Errorf("who is not known waits %d ms", r.ThrottleMillis)
		}
	}
	d.percent(t, "ann", 0)
	d.percent(t, quota.Default, 0)
	if wait := metadata(d.as(t, "ann")); wait != 0 {
		t.Errorf("without the limit: %d ms", wait)
	}
}

// Each of these requests takes some milliseconds, and a hundredth of each second is
// for them: some may come at once.
func TestFlood(t *testing.T) {
	now := newClock(time.Millisecond)
	d := open(t, setup{now: now.now})
	d.percent(t, nobody, 1)
	w := d.dial(t)
	for i := 1; i <= 20; i++ {
		began := time.Now()
		wait := metadata(w)
		if wait == 0 {
			continue
		}
		if i < 3 || wait > 1_000 || d.mutedUntil(w).Before(began.Add(time.Duration(wait-1)*time.Millisecond)) { // told in whole ms, at least one
			t.Errorf("request %d: %d ms", i, wait)
		}
		return
	}
	t.Error("nobody has to wait")
}

// Every answer that can tell of a wait does, also the first one of all.
func TestEveryAnswerThrottles(t *testing.T) {
	now := newClock(time.Minute)
	d := open(t, setup{now: now.now})
	topic := d.newTopic(t, "a", 1, nil)
	d.percent(t, nobody, 1)
	versions := kmsg.NewPtrApiVersionsRequest()
	versions.Version = 2
	heartbeat := kmsg.NewPtrHeartbeatRequest()
	heartbeat.Version, heartbeat.Group = 3, "g"
	for what, wait := range map[string]func(*wire) int32{
		"versions":  func(w *wire) int32 { return ask[*kmsg.ApiVersionsResponse](w, versions).ThrottleMillis },
		"fetch":     func(w *wire) int32 { return ask[*kmsg.FetchResponse](w, fetchFrom(12, topic, 0)).ThrottleMillis },
		"heartbeat": func(w *wire) int32 { return ask[*kmsg.HeartbeatResponse](w, heartbeat).ThrottleMillis },
		"produce": func(w *wire) int32 {
			return ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, batchOf(t, record.None, "x"))).ThrottleMillis
		},
	} {
		w := d.dial(t)
		if ms := wait(w); ms != 30_000 || !d.isMuted(w, 20*time.Second) {
			t.Errorf("%s: %d ms", what, ms)
		}
	}
}

// The longer of two waits counts.
func TestLongerWait(t *testing.T) {
	now := newClock(15 * time.Millisecond) // three are work: to the count of the bytes, to the log, and behind it
	d := open(t, setup{now: now.now})
	topic := d.newTopic(t, "a", 1, nil)
	for what, c := range map[string]struct {
		limits    quota.Limits
		low, high int32
	}{
		"bytes": {quota.Limits{Produce: 400, Request: 2}, 8_000, 10_500},
		"time":  {quota.Limits{Produce: 3_900, Request: 1}, 3_000, 4_000},
	} {
		if err := d.own.Quotas.Set(t.Context(), quota.Entity{User: nobody}, func(to *quota.Limits) { *to = c.limits }, false); err != nil {
			t.Fatal(err)
		}
		now.add(time.Hour)
		w := d.dial(t)
		wait := ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, batchOf(t, record.None, string(make([]byte, 4_000))))).ThrottleMillis
		if wait < c.low || wait > c.high || !d.isMuted(w, time.Duration(c.low)*time.Millisecond/2) {
			t.Errorf("%s: %d ms", what, wait)
		}
	}
}

// heldUntilEnd holds a bucket back until the function that it returns is called, or
// the test ends: closing the log would wait for it.
func heldUntilEnd(t *testing.T, s *slow) (release func()) {
	release = sync.OnceFunc(s.hold())
	t.Cleanup(release)
	return release
}

// Waiting does not count as work on a request: while another client has to act, so
// much time passes that it would use up any limit, and it is charged to no client.
func TestWaitingIsFree(t *testing.T) {
	bucket, now := &slow{Bucket: mem.New()}, newClock(0)
	d := open(t, setup{now: now.now, bucket: bucket})
	topic := d.newTopic(t, "a", 1, nil)
	d.percent(t, nobody, 1)
	release := func() {}
	holding, released := func() { release = heldUntilEnd(t, bucket) }, func() { release() }
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 7, "g", -1
	ct := kmsg.NewOffsetCommitRequestTopic()
	ct.Topic, ct.Partitions = topic.Name, []kmsg.OffsetCommitRequestTopicPartition{{LeaderEpoch: -1}}
	commit.Topics = append(commit.Topics, ct)
	fetch := fetchFrom(12, topic, 1)
	fetch.MaxWaitMillis = 25_000
	forget := kmsg.NewPtrOffsetDeleteRequest()
	forget.Group = "g"
	forget.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: topic.Name, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}
	remove := kmsg.NewPtrDeleteGroupsRequest()
	remove.Version, remove.Groups = 2, []string{"g"}
	users := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	users.Upsertions = []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{{Name: "u", Mechanism: 1, Iterations: 4096, Salt: make([]byte, 16), SaltedPassword: make([]byte, 32)}}
	for _, c := range []struct {
		what  string
		q     kmsg.Request
		first func()
		until string
		then  func()
	}{
		{"produce", produceTo(9, topic, -1, batchOf(t, record.None, "x")), holding, counts, released},
		{"fetch", fetch, func() {}, stands, func() {
			d.broker.Append(broker.Append{Topic: topic.ID, Batch: batchOf(t, record.None, "y")}, func(int64, error) {})
		}},
		{"commit", commit, holding, stands, released},
		{"forget", forget, holding, stands, released},
		{"commit again", commit, holding, stands, released},
		{"delete", remove, holding, stands, released},
		{"users", users, holding, stands, released},
	} {
		w := d.dial(t)
		c.first()
		now.passes(w, c.q, c.until)
		c.then()
		r := receiveAs(w, w.id, c.q.ResponseKind())
		if ms, _ := r.(kmsg.ThrottleResponse).Throttle(); ms != 0 || d.isMuted(w, 0) {
			t.Errorf("%s: %d ms", c.what, ms)
		}
		if ms := metadata(w); ms != 0 {
			t.Errorf("after %s: %d ms", c.what, ms)
		}
	}
}

// ACLs wait to be durable like anything else.
func TestACLsWaitForFree(t *testing.T) {
	bucket, now := &slow{Bucket: mem.New()}, newClock(0)
	d := open(t, setup{now: now.now, bucket: bucket, options: Options{Access: authorized(), LoginPause: time.Nanosecond, Listeners: []Listener{{SASL: []string{Plain}}}}})
	credential, err := auth.NewCredential(auth.SCRAMSHA256, "root's secret")
	if err = errors.Join(err, d.own.Users.SetCredentials(t.Context(), "root", credential)); err != nil {
		t.Fatal(err)
	}
	root := d.as(t, "root")
	d.percent(t, "root", 1)
	var add, remove kmsg.Request
	for _, q := range securityExamples() {
		switch q := q.(type) {
		case *kmsg.CreateACLsRequest:
			q.Version, add = 1, q
		case *kmsg.DeleteACLsRequest:
			q.Version, remove = 1, q
		}
	}
	for _, q := range []kmsg.Request{add, remove} {
		release := heldUntilEnd(t, bucket)
		now.passes(root, q, stands)
		release()
		r := receiveAs(root, root.id, q.ResponseKind())
		if ms, _ := r.(kmsg.ThrottleResponse).Throttle(); ms != 0 {
			t.Errorf("%T: %d ms", q, ms)
		}
	}
}

// A member that waits for the others pays for none of it.
func TestMembersWaitForFree(t *testing.T) {
	now := newClock(0)
	d := open(t, setup{now: now.now})
	d.percent(t, nobody, 1)
	join := func(member string) *kmsg.JoinGroupRequest {
		q := kmsg.NewPtrJoinGroupRequest()
		q.Version, q.Group, q.ProtocolType, q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = 3, "g", "x", 30_000, 30_000
		q.MemberID, q.Protocols = member, []kmsg.JoinGroupRequestProtocol{{Name: "p"}}
		return q
	}
	syncing := func(of *kmsg.JoinGroupResponse) *kmsg.SyncGroupRequest {
		return &kmsg.SyncGroupRequest{Version: 2, Group: "g", Generation: of.Generation, MemberID: of.MemberID}
	}
	first, second := d.dial(t), d.dial(t)
	leader := ask[*kmsg.JoinGroupResponse](first, join(""))
	if r := ask[*kmsg.SyncGroupResponse](first, syncing(leader)); leader.ErrorCode != 0 || r.ErrorCode != 0 {
		t.Fatalf("%+v, %+v", leader, r)
	}
	now.passes(second, join(""), stands) // until the first one has joined again
	leader = ask[*kmsg.JoinGroupResponse](first, join(leader.MemberID))
	member := receiveAs(second, second.id, &kmsg.JoinGroupResponse{Version: 3})
	if leader.ErrorCode != 0 || member.ErrorCode != 0 || member.ThrottleMillis != 0 {
		t.Fatalf("%+v, %+v", leader, member)
	}
	now.passes(second, syncing(member), stands) // until the leader has
	if r := ask[*kmsg.SyncGroupResponse](first, syncing(leader)); r.ErrorCode != 0 {
		t.Fatalf("%+v", r)
	}
	if r := receiveAs(second, second.id, &kmsg.SyncGroupResponse{Version: 2}); r.ErrorCode != 0 || r.ThrottleMillis != 0 || d.isMuted(second, 0) {
		t.Errorf("%+v", r)
	}
}

// A request that waits for a turn does not pay for the one that has it.
func TestTurnIsFree(t *testing.T) {
	now := newClock(0)
	d := open(t, setup{now: now.now})
	d.percent(t, nobody, 1)
	d.decode.long <- struct{}{}
	q := kmsg.NewPtrMetadataRequest()
	q.Version = 12
	q.Topics = make([]kmsg.MetadataRequestTopic, 5_000)
	for i := range q.Topics {
		q.Topics[i].TopicID[0] = 1
	}
	w := d.dial(t)
	now.passes(w, q, stands)
	<-d.decode.long
	if r := receiveAs(w, w.id, &kmsg.MetadataResponse{Version: 12}); r.ThrottleMillis != 0 {
		t.Errorf("%d ms", r.ThrottleMillis)
	}
}

// slowListener's connections take their time for each write.
type slowListener struct {
	net.Listener
	clock *clock
	takes *time.Duration
}

type slowConn struct {
	net.Conn
	l slowListener
}

func (l slowListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return slowConn{nc, l}, err
}

func (c slowConn) Write(p []byte) (int, error) {
	c.l.clock.add(*c.l.takes)
	return c.Conn.Write(p)
}

// The work of writing answers counts for later requests, and waiting for a client
// that does not take them does not.
func TestWriting(t *testing.T) {
	for _, c := range []struct {
		takes   time.Duration
		percent float64 // of which a write takes 60 µs of a second's worth of 200 µs, or more
		wait    bool
	}{{60 * time.Microsecond, 0.02, true}, {time.Hour, 1, false}} {
		now := newClock(0)
		d := open(t, setup{now: now.now, listen: func(l net.Listener) net.Listener { return slowListener{l, now, &c.takes} }})
		d.percent(t, nobody, c.percent)
		w, waits := d.dial(t), false
		for range 20 {
			if !waits {
				waits = metadata(w) > 0
			}
		}
		if waits != c.wait {
			t.Errorf("writes take %v: throttled is %v", c.takes, waits)
		}
	}
}

// A connection's mutes do not shorten each other.
func TestMute(t *testing.T) {
	c := &conn{}
	c.mute(time.Hour)
	c.mute(time.Second)
	if time.Until(time.Unix(0, c.muted.Load())) < time.Minute {
		t.Error("a shorter wait has ended a longer one")
	}
}

// far is a bucket whose reads take their time.
type far struct {
	storage.Bucket
	clock *clock
	gets  atomic.Int64
}

func (f *far) Get(ctx context.Context, key string, from, size int64) ([]byte, error) {
	f.gets.Add(1)
	f.clock.add(time.Minute)
	return f.Bucket.Get(ctx, key, from, size)
}

// A read counts as much as its bytes are worth, however long the bucket takes.
func TestReadingIsBounded(t *testing.T) {
	now := newClock(0)
	bucket := &far{Bucket: mem.New(), clock: now}
	t.Run("write", func(t *testing.T) {
		d := open(t, setup{bucket: bucket})
		topic := d.newTopic(t, "a", 1, nil)
		_ = ask[*kmsg.ProduceResponse](d.dial(t), produceTo(9, topic, -1, batchOf(t, record.None, "x")))
	})
	d := open(t, setup{bucket: bucket, now: now.now})
	d.percent(t, nobody, 1)
	topic, err := d.broker.Topic("a")
	if err != nil {
		t.Fatal(err)
	}
	before := bucket.gets.Load()
	r := ask[*kmsg.FetchResponse](d.dial(t), fetchFrom(12, topic, 0))
	if p := r.Topics[0].Partitions[0]; p.ErrorCode != 0 || len(p.RecordBatches) == 0 || bucket.gets.Load() == before {
		t.Fatalf("%d reads, %+v", bucket.gets.Load()-before, p)
	}
	if r.ThrottleMillis != 0 {
		t.Errorf("%d ms", r.ThrottleMillis)
	}
}
