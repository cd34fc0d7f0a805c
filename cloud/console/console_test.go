package console

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/recent"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/sync/join"
)

// ownToken is the credential by which the tests ask.
var ownToken = admin.NewToken()

func guard() *admin.Guard { return admin.New(admin.Options{Service: "weir-cloud", Own: ownToken}) }

// node is a console on a broker that owns an empty log.
type node struct {
	http.Handler
	bucket      storage.Bucket
	broker      *broker.Broker
	log         *commitlog.Log
	groups      *group.Coordinator
	fleet       *fleet.Fleet
	ca          *join.CA
	metrics     *measure.Registry
	shard       measure.Shard
	recent      recent.Lines
	state       State
	sessions    []measure.Session
	reconnected int
}

func newNode(t *testing.T) *node {
	t.Helper()
	ca, err := join.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	s := shard.New(shard.Options{Log: quiet, Fleet: fleet.Options{CA: ca}})
	bucket := mem.New()
	if err := s.Open(t.Context(), commitlog.Options{Bucket: bucket, Node: "a", Log: quiet}); err != nil {
		t.Fatal(err)
	}
	n := &node{bucket: bucket, ca: ca, log: s.Log.Log, groups: s.Groups, fleet: s.Fleet}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, commitlog.ErrFenced) {
			t.Error(err)
		}
	})
	set := measure.New()
	set.NewCounter("test_total").Inc()
	n.broker = broker.New(broker.Options{Self: broker.Node{Name: "a", Addresses: cluster.Addresses{cluster.HTTP: {"": "a:8080"}, cluster.Kafka: {"": "a:9092"}}}, Partitions: 2, Metrics: set.Set, Takeover: time.Hour})
	n.broker.Lead(s)
	set.SetSources(measure.Sources{Coordination: n.broker.Coordination, Shards: func() ([]measure.Shard, error) { return []measure.Shard{n.shard}, nil },
		Gateways: func() ([]measure.Gateway, error) {
			if !n.broker.IsController() {
				return nil, broker.ErrNotOwner
			}
			return measure.Gateways(n.fleet, n.sessions), nil
		}})
	n.metrics = set
	n.Handler = New(Options{Guard: guard(), Broker: n.broker, Metrics: set, Recent: &n.recent, State: func() State { return n.state },
		Fleet: func() *fleet.Fleet {
			if !n.broker.IsController() {
				return nil
			}
			return n.fleet
		},
		Drop: func(gateway string) {
			if gateway == "gw" {
				n.reconnected++
			}
		},
		Role: func() string {
			if n.broker.IsController() {
				return RoleOwner
			}
			return RoleStandby
		}})
	return n
}

// ask makes a request and decodes the answer into a T.
func ask[T any](t *testing.T, n *node, status int, method, path, body string) T {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+ownToken)
	n.ServeHTTP(w, r)
	if w.Code != status {
		t.Fatalf("%s %s %s: %d, want %d: %s", method, path, body, w.Code, status, w.Body)
	}
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, w.Body)
	}
	return v
}

// TestFormerOwner: a node that another one has replaced does not say that something does not
// exist which is to be changed.
func TestFormerOwner(t *testing.T) {
	n := newNode(t)
	ask[Error](t, n, 404, "DELETE", "/v1/topics/t", "")
	next := shard.New(shard.Options{Log: slog.New(slog.DiscardHandler), Fleet: fleet.Options{CA: n.ca}})
	if err := next.Open(t.Context(), commitlog.Options{Bucket: n.bucket, Node: "b", Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	ask[Error](t, n, 421, "DELETE", "/v1/topics/t", "")
}

// TestWaitsUntilSure: a node whose last confirmation is old performs nothing before there is a
// new one.
func TestWaitsUntilSure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		time.Sleep(50 * time.Minute)
		done := make(chan []Topic, 1)
		go func() { done <- ask[[]Topic](t, n, 200, "GET", "/v1/topics", "") }()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("a node that may have been replaced answers")
		default:
		}
		n.broker.Sure(0, time.Now())
		synctest.Wait()
		select {
		case <-done:
		default:
			t.Error("a node that has been confirmed does not answer")
		}
	})
}

func TestTopics(t *testing.T) {
	n := newNode(t)
	if all := ask[[]Topic](t, n, 200, "GET", "/v1/topics", ""); all == nil || len(all) != 0 {
		t.Errorf("an empty list is %v", all)
	}
	made := ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"t","partitions":3,"configs":{"retention.ms":"1000"}}`)
	if made.Name != "t" || len(made.Partitions) != 3 || len(made.ID) != 32 || made.Configs["retention.ms"] != "1000" || time.Since(made.Created) > time.Hour {
		t.Errorf("made %+v", made)
	}
	if d := ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"default"}`); len(d.Partitions) != 2 {
		t.Errorf("made %+v", d)
	}
	b := record.NewBuilder(record.None)
	if err := b.Append(&record.Record{Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	topic, err := n.broker.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	n.broker.Append(broker.Append{Topic: topic.ID, Partition: 1, Batch: batch}, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if grown := ask[Topic](t, n, 200, "POST", "/v1/topics/t/partitions?count=5", ""); len(grown.Partitions) != 5 || grown.Records != 1 || grown.Partitions[1].Start != 0 || grown.Partitions[1].End != 1 || grown.Partitions[1].Bytes == 0 || grown.Bytes != grown.Partitions[1].Bytes {
		t.Errorf("grown %+v", grown)
	}
	altered := ask[Topic](t, n, 200, "POST", "/v1/topics/t/configs", `{"configs":{"retention.ms":"","cleanup.policy":"compact"}}`)
	if len(altered.Configs) != 1 || altered.Configs["cleanup.policy"] != "compact" {
		t.Errorf("settings after a change: %v", altered.Configs)
	}
	ask[struct{}](t, n, 200, "DELETE", "/v1/topics/default", "")
	if all := ask[[]Topic](t, n, 200, "GET", "/v1/topics", ""); len(all) != 1 || all[0].Name != "t" {
		t.Errorf("left %+v", all)
	}
}

// TestHiddenTopics: the topics of the work queues are not listed, and to whoever names one
// there is none.
func TestHiddenTopics(t *testing.T) {
	n := newNode(t)
	if _, err := n.log.CreateTopicIn(t.Context(), 0, "weir.vhost.x"); err != nil {
		t.Fatal(err)
	}
	if all := ask[[]Topic](t, n, 200, "GET", "/v1/topics", ""); len(all) != 0 {
		t.Errorf("listed %+v", all)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/topics", `{"name":"weir.vhost.y"}`, 400},
		{"GET", "/v1/topics/weir.vhost.x", "", 404},
		{"GET", "/v1/topics/weir.vhost.x/records?partition=0", "", 404},
		{"POST", "/v1/topics/weir.vhost.x/records", `{"records":[{"value":"dg=="}]}`, 404},
		{"POST", "/v1/topics/weir.vhost.x/partitions?count=3", "", 404},
		{"POST", "/v1/topics/weir.vhost.x/configs", `{"configs":{}}`, 404},
		{"DELETE", "/v1/topics/weir.vhost.x", "", 404},
	} {
		if e := ask[Error](t, n, c.status, c.method, c.path, c.body); e.Error == "" {
			t.Errorf("%s %s: no reason", c.method, c.path)
		}
	}
}

// TestMistakes: each wrong request has its status and a sentence.
func TestMistakes(t *testing.T) {
	n := newNode(t)
	ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"t"}`)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/v1/topics", `{"name":"t"}`, 409, "topic exists"},
		{"POST", "/v1/topics", `{"name":"a/b"}`, 400, "invalid topic"},
		{"POST", "/v1/topics", `{"name":"weir.x"}`, 400, "reserved"},
		{"POST", "/v1/topics", `{"name":"__consumer_offsets"}`, 400, "reserved"},
		{"POST", "/v1/topics", `{"name":"u","partitions":-7}`, 400, "number of partitions"},
		{"POST", "/v1/topics", `{"name":"u","configs":{"x":"y"}}`, 400, "topic setting"},
		{"POST", "/v1/topics", `{"nmae":"u"}`, 400, `unknown field "nmae"`},
		{"POST", "/v1/topics", ``, 400, "bad request"},
		{"POST", "/v1/topics", `{"name":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "too large"},
		{"POST", "/v1/topics/t/partitions?count=1", ``, 400, "number of partitions"},
		{"POST", "/v1/topics/t/partitions?count=many", ``, 400, "new number of partitions"},
		{"POST", "/v1/topics/u/partitions?count=3", ``, 404, "unknown topic"},
		{"POST", "/v1/topics/u/configs", `{"configs":{}}`, 404, "unknown topic"},
		{"POST", "/v1/topics/t/configs", `{"configs":{"retention.ms":"soon"}}`, 400, "topic setting"},
		{"DELETE", "/v1/topics/u", ``, 404, "unknown topic"},
		{"GET", "/v1/groups/nobody", ``, 404, "does not exist"},
		{"POST", "/v1/gateways/gw/revoke", ``, 404, "no such gateway"},
		{"POST", "/v1/gateways/gw/praise", ``, 400, "must be reset, revoke"},
		{"POST", "/v1/gateways/revoke", `{"gateway":".."}`, 404, "no such gateway"},
		{"POST", "/v1/gateways/allow", `{"gateway":"gw","topics":["a/b"]}`, 400, "a pattern is"},
		{"POST", "/v1/gateways/allow", `{"gateway":"gw","topics":["a"]}`, 404, "no such gateway"},
		{"POST", "/v1/gateways/allow", `{"gateway":"gw"}`, 400, "one is needed"},
		{"GET", "/v1/groups?id=..", ``, 404, "does not exist"},
		{"DELETE", "/v1/groups?id=..", ``, 404, "does not exist"},
		{"POST", "/v1/join-tokens", `{"topics":["a b"]}`, 400, "a pattern is"},
		{"POST", "/v1/join-tokens", `{"gateways":[".."]}`, 400, "begin with a letter"},
		{"POST", "/v1/join-tokens", `{"uses":-1}`, 400, "uses must not be negative"},
		{"POST", "/v1/join-tokens", `{"seconds":9223372036}`, 400, "seconds must be from 0 to"},
		{"POST", "/v1/join-tokens", `{"gateways":["a b"]}`, 400, "gateway id"},
	} {
		if e := ask[Error](t, n, c.status, c.method, c.path, c.body); !strings.Contains(e.Error, c.want) || e.Owner != "" {
			t.Errorf("%s %s: %+v, want %q", c.method, c.path, e, c.want)
		}
	}
	if n.reconnected != 0 {
		t.Error("a mistake ended the gateways' sessions")
	}
}

// TestGateways: a gateway joins with a token; a revoked one must say Hello again.
func TestGateways(t *testing.T) {
	n := newNode(t)
	token, err := join.ParseToken(ask[Token](t, n, 200, "POST", "/v1/join-tokens", `{"uses":1,"seconds":60,"gateways":["gw"]}`).Token)
	if err != nil {
		t.Fatal(err)
	}
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := join.NewCSR(key, "gw")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.fleet.Join(t.Context(), token.Secret, "gw", csr); err != nil {
		t.Fatal(err)
	}
	n.sessions = []measure.Session{{Gateway: "gw", Contact: fleet.Contact{At: time.Now().UnixMilli(), Address: "192.0.2.1:5", Records: 7, Oldest: time.Now().UnixMilli() - 1500}}, {Gateway: "unknown"}}
	for i, want := range []struct {
		change             string
		connected, revoked bool
	}{{"", true, false}, {"gw/revoke", true, true}, {"gw/reset", true, false}, {"revoke", true, true}, {"reset", true, false}, {"allow", true, false}} {
		if want.change != "" {
			body := ""
			if !strings.Contains(want.change, "/") {
				body = `{"gateway":"gw"}`
			}
			if want.change == "allow" {
				body = `{"gateway":"gw","topics":["pumps.*"]}`
			}
			ask[struct{}](t, n, 200, "POST", "/v1/gateways/"+want.change, body)
		}
		all := ask[[]Gateway](t, n, 200, "GET", "/v1/gateways", "")
		if len(all) != 1 || all[0].ID != "gw" || all[0].Connected != want.connected || all[0].Revoked != want.revoked || all[0].Buffered != 7 || all[0].AgeMS < 1500 || all[0].AgeMS > 60_000 || n.reconnected != i {
			t.Errorf("after %q: %+v, sessions ended %d times", want.change, all, n.reconnected)
		}
		if bound := n.fleet.MayWrite("gw", "pumps.a") && !n.fleet.MayWrite("gw", "alarms"); bound != (want.change == "allow") || bound != (len(all[0].Allow) == 1) {
			t.Errorf("after %q: bound to topics: %v, %+v", want.change, bound, all)
		}
	}
}

func TestGroups(t *testing.T) {
	n := newNode(t)
	ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"t"}`)
	ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"gone"}`)
	for _, name := range []string{"t", "gone"} {
		topic, err := n.broker.Topic(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.groups.Commit(t.Context(), group.CommitRequest{Group: "g", Generation: -1,
			Offsets: []group.Offset{{Partition: group.Partition{Topic: topic.ID, Index: 1}, Offset: 0}}}); err != nil {
			t.Fatal(err)
		}
	}
	ask[struct{}](t, n, 200, "DELETE", "/v1/topics/gone", "")
	if all := ask[[]Group](t, n, 200, "GET", "/v1/groups", ""); len(all) != 1 || all[0].ID != "g" || all[0].State != "Empty" {
		t.Errorf("groups %+v", all)
	}
	g := ask[Group](t, n, 200, "GET", "/v1/groups/g", "")
	defer func() {
		ask[struct{}](t, n, 200, "DELETE", "/v1/groups/g", "")
		ask[Error](t, n, 404, "GET", "/v1/groups/g", "")
		ask[Error](t, n, 404, "DELETE", "/v1/groups/g", "")
	}()
	if len(g.Offsets) != 1 || g.Offsets[0] != (GroupOffset{Topic: "t", Partition: 1}) {
		t.Errorf("group %+v", g)
	}
}

// TestRoles: an owner serves, a standby names the owner, and in doubt there is
// no answer.
func TestRoles(t *testing.T) {
	n := newNode(t)
	paths := []string{"/v1/topics", "/v1/groups", "/v1/gateways"}
	if a := ask[Alive](t, n, 200, "GET", "/readyz", ""); a != (Alive{"a", RoleOwner}) {
		t.Errorf("ready: %+v", a)
	}
	n.broker.Doubt(0, true)
	for _, path := range paths[:2] {
		if e := ask[Error](t, n, 503, "GET", path, ""); e.Owner != "" {
			t.Errorf("in doubt: %+v", e)
		}
	}
	n.broker.Follow(0, broker.Node{Name: "b", Addresses: cluster.Addresses{cluster.HTTP: {"": "b:8080"}, cluster.Kafka: {"": "b:9092"}}}, "cluster-id")
	for _, path := range paths {
		if e := ask[Error](t, n, 421, "GET", path, ""); e.Owner != "b:8080" || e.Error == "" {
			t.Errorf("standby, %s: %+v", path, e)
		}
	}
	want := Node{Name: "a", Role: RoleStandby, Epoch: -1, Cluster: "cluster-id", Kafka: "b:9092", HTTP: "b:8080", Owner: "b"}
	if got := ask[Node](t, n, 200, "GET", "/v1/node", ""); got != want {
		t.Errorf("node %+v", got)
	}
	ask[Alive](t, n, 200, "GET", "/readyz", "")
	n.broker.Follow(0, broker.Node{}, "cluster-id")
	ask[Error](t, n, 503, "GET", "/readyz", "")
	if a := ask[Alive](t, n, 200, "GET", "/healthz", ""); a != (Alive{"a", RoleStandby}) {
		t.Errorf("alive: %+v", a)
	}
}

// TestOtherSites: a page that somebody on this machine looks at cannot change
// anything here.
func TestOtherSites(t *testing.T) {
	n := newNode(t)
	for site, want := range map[string]int{"cross-site": 403, "same-origin": 200, "": 200} {
		r := httptest.NewRequestWithContext(context.Background(), "POST", "http://localhost/v1/join-tokens", strings.NewReader("{}"))
		r.Header.Set("Authorization", "Bearer "+ownToken)
		if site != "" {
			r.Header.Set("Sec-Fetch-Site", site)
		}
		w := httptest.NewRecorder()
		n.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("from %q: %d, want %d", site, w.Code, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	n := newNode(t)
	w := httptest.NewRecorder()
	n.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/metrics", nil))
	for _, want := range []string{"test_total 1", "process_"} {
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%d, no %s in the metrics", w.Code, want)
		}
	}
}

// TestTopicsElsewhere: a partition that another node leads is listed with that node, and
// without figures.
func TestTopicsElsewhere(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	s := shard.New(shard.Options{Log: quiet, Part: shard.Catalogue})
	if err := s.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Shards: 3, Node: "a", Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	b := broker.New(broker.Options{Self: broker.Node{Name: "a"}, Shards: 3, Partitions: 2})
	b.Lead(s)
	for id := range uint32(2) {
		b.Follow(id+1, broker.Node{Name: "b"}, "")
	}
	n := &node{broker: b, Handler: New(Options{Guard: guard(), Broker: b, Metrics: measure.New(), Role: func() string { return RoleOwner }})}
	made := ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"t"}`)
	if all := ask[[]Topic](t, n, 200, "GET", "/v1/topics", ""); len(all) != 1 || len(all[0].Partitions) != 2 || all[0].Partitions[1] != (Partition{Leader: "b"}) || len(made.Partitions) != 2 {
		t.Errorf("%+v, made %+v", all, made)
	}
}
