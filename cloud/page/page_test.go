package page

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/recent"
)

// hostile is what a device could send to whoever looks at it.
const hostile = `</pre><script>alert(1)</script><img src=x onerror=alert(2)>"'&{{.}}`

// port is an admin port with pages, on answers that the test sets.
type port struct {
	*admin.Guard
	own     string
	readers map[string]admin.Role // tokens
	answers map[string]any        // by path
	queries map[string]string     // that were asked for last, by path
}

func newPort(t *testing.T, o admin.Options) *port {
	t.Helper()
	p := &port{own: admin.NewToken(), readers: map[string]admin.Role{admin.NewToken(): admin.Read}, answers: sample(), queries: make(map[string]string)}
	o.Service, o.Own = "weir-cloud", p.own
	o.Lookup = func(h admin.Hash) (admin.Caller, error) {
		for token, role := range p.readers {
			if admin.HashOf(token) == h {
				return admin.Caller{Name: "reader", Role: role}, nil
			}
		}
		return admin.Caller{}, admin.ErrUnknown
	}
	p.Guard = admin.New(o)
	for path, role := range map[string]admin.Role{"/v1/node": admin.Read, "/v1/nodes": admin.Read, "/v1/status": admin.Read, "/v1/topics": admin.Read, "/v1/topics/{name}": admin.Read,
		"/v1/topics/{name}/records": admin.Operate, "/v1/gateways": admin.Read, "/v1/gateways/{id}": admin.Read, "/v1/groups": admin.Read, "/v1/errors": admin.Read} {
		p.Handle(role, "GET "+path, func(w http.ResponseWriter, r *http.Request) {
			p.queries[r.URL.Path] = r.URL.RawQuery
			answer := p.answers[r.URL.Path]
			if id := r.URL.Query().Get("id"); id != "" {
				answer = p.answers[r.URL.Path+"?id="+id]
			}
			switch answer := answer.(type) {
			case nil:
				admin.Reply(w, 404, console.Error{Error: "there is no " + r.URL.Path})
			case console.Error:
				admin.Reply(w, 421, answer)
			default:
				admin.Reply(w, 200, answer)
			}
		})
	}
	Register(p.Guard)
	return p
}

// sample is what the port answers about a cluster in which every name and payload is
// hostile.
func sample() map[string]any {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	topic := console.Topic{Name: "sensors", ID: "0123", Created: at, Records: 41234, Bytes: 7_340_000, Rate: 120.4,
		Partitions: []console.Partition{{Start: 5, End: 50, Bytes: 1000}, {Start: 0, End: 2}}, Configs: map[string]string{"retention.ms": hostile}}
	group := console.Group{ID: "g" + hostile, State: "Stable", Members: 1, Lag: 17, Protocol: "consumer",
		Offsets: []console.GroupOffset{{Topic: "sensors", Committed: 3, End: 20, Lag: 17, Member: hostile}},
		Details: []console.GroupMember{{ID: hostile, Client: hostile, Host: "/10.0.0.1", Partitions: []string{"sensors/0"}}}}
	gateways := []console.Gateway{
		{ID: "pump-house-3", Joined: at, Expires: at.AddDate(1, 0, 0), Connected: true, Address: "192.0.2.7:1234", Software: hostile, Since: at, Buffered: 120_000, Bytes: 9_000_000, AgeMS: 65_000, Known: true, Lost: 41},
		{ID: "away-1", Joined: at, Expires: at, LastContact: at}, {ID: "gone", Joined: at, Expires: at, Revoked: true, Deny: []string{hostile}}}
	lines := console.Lines{Node: "a", Lines: []recent.Line{{Time: at, Level: "ERROR", Text: hostile, About: []recent.About{{Key: hostile, Value: hostile}}}}}
	records := console.Records{Topic: "sensors", Start: 5, End: 50, Next: 33, Records: []console.Record{
		{Offset: 30, Time: at, Key: []byte(hostile), Value: []byte(hostile), Size: 99, Headers: []console.RecordHeader{{Name: hostile, Value: []byte(hostile)}}},
		{Offset: 31, Time: at, Value: []byte(`{"html":"<b>bold</b>"}`), Size: 22},
		{Offset: 32, Time: at, Key: []byte{0, 1}, Value: []byte{0xff, 0}, Size: 70_000, Headers: []console.RecordHeader{{Name: "b", Value: []byte{9}}}},
	}}
	owned := console.OwnedShard{Shard: 1, Epoch: 4, State: string(cluster.Owning), Since: at, Rate: 12, ByteRate: 3000, Reason: string(cluster.Silent), From: hostile}
	return map[string]any{
		"/v1/nodes": console.Nodes{Node: "a", Problems: []string{"node " + hostile + " does not answer"},
			Nodes: []console.ClusterNode{{State: console.NodeUp, Ahead: -90 * time.Second, NodeStatus: console.NodeStatus{Name: "a", Role: console.RoleOwner, Started: at, Version: hostile, Roles: []string{"meta", "log"},
				Catalogue: 0.5, Certificate: at, Draining: true, Shards: []console.OwnedShard{owned}, Peer: "a:7401"}}, {State: console.NodeSilent, Heard: at, Error: hostile, NodeStatus: console.NodeStatus{Name: hostile}},
				{State: console.NodeUp, Error: "it is of an earlier version", NodeStatus: console.NodeStatus{Name: "c"}}},
			Shards: []console.ShardStatus{{OwnedShard: console.OwnedShard{State: console.ShardNone}}, {OwnedShard: owned, Owner: "a", Slices: 1024, Partitions: 8}}},
		"/v1/node": console.Node{Name: "a", Role: console.RoleOwner, Owner: "a", HTTP: "a:8080"},
		"/v1/status": console.Status{Node: "a", Version: "v1", Cluster: "c1", Nodes: []console.Member{{Name: "a", Role: console.RoleOwner, Since: at, Addresses: []console.Address{{Door: "amqp", Address: "a:5672"}, {Door: "kafka", Listener: "tls", Address: "a:9093"}}}, {Name: hostile, Role: console.RoleStandby, Since: at, Heard: at}},
			Topics: 1, Records: 41234, Bytes: 7_340_000, Rate: 120.4, Gateways: console.GatewayCount{Connected: 1, Away: 1, Revoked: 1, Buffered: 120_000, Lost: 41}, Groups: 2, Lagging: []console.Group{group}, Damaged: 3, Disk: console.Disk{Path: "data", Free: 4e10, Size: 1e11},
			Doors: []measure.Listener{{Door: "amqp", Counts: listener.Counts{Listener: hostile, GateCounts: budget.GateCounts{Open: 1_234}, Received: 5_600_000, Requests: 1_023, Errors: 57}}}},
		"/v1/topics": []console.Topic{topic}, "/v1/topics/sensors": topic, "/v1/topics/sensors/records": records,
		"/v1/gateways": gateways, "/v1/gateways/gone": console.GatewayDetail{Gateway: gateways[2]},
		"/v1/gateways/pump-house-3": console.GatewayDetail{Gateway: gateways[0], Figures: measure.Figures{Started: at, FreeBytes: new(uint64), Lanes: []measure.LaneStatus{{Lane: "live", Buffered: 119_999, Oldest: at}}},
			Streams:  []console.StreamStatus{{Buffer: "00ff", Lane: "live", Marks: []console.StreamMark{{Topic: "sensors", Partition: 3, Last: 9_876}}}},
			Refusals: []console.Refusal{{Last: at, Topic: hostile, Reason: "topic", Text: hostile, Times: 7}}}, "/v1/groups": []console.Group{group}, "/v1/groups?id=g" + hostile: []console.Group{group}, "/v1/errors": lines,
	}
}

// all are the pages with a query that shows something.
func all() []string {
	return []string{"/", "/topics", "/nodes", "/topic?name=sensors", "/records?topic=sensors&partition=0&offset=30", "/gateways", "/gateway?id=pump-house-3", "/groups",
		link("/group", "id", "g"+hostile), "/errors", "/topics?q=" + "%3Cscript%3E", "/gateways?q=" + `%22%3E%3Cscript%3E`}
}

func (p *port) ask(path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "http://localhost"+path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// TestNothingIsMarkup: whatever devices, clients and people have put into names and
// records is text in every page: the elements and attributes of a page are its own.
func TestNothingIsMarkup(t *testing.T) {
	p := newPort(t, admin.Options{})
	for _, path := range all() {
		w := p.ask(path, p.own)
		if w.Code != 200 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
			continue
		}
		csp := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			t.Errorf("%s: headers %v", path, w.Header())
		}
		document, err := html.Parse(bytes.NewReader(w.Body.Bytes()))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		inspect(t, path, document)
	}
}

// inspect fails at what no page has: images, scripts but one, handlers, styles, links
// that lead elsewhere.
func inspect(t *testing.T, path string, n *html.Node) {
	if n.Type == html.ElementNode {
		switch n.Data {
		case "img", "iframe", "object", "embed", "style", "svg", "base":
			t.Errorf("%s has <%s>", path, n.Data)
		}
		for _, a := range n.Attr {
			local := strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "//")
			switch key := strings.ToLower(a.Key); {
			case strings.HasPrefix(key, "on"), key == "style":
				t.Errorf("%s: <%s> has %s=%q", path, n.Data, a.Key, a.Val)
			case key == "src" && (n.Data != "script" || a.Val != "/page.js"), (key == "href" || key == "action") && !local:
				t.Errorf("%s: <%s> leads to %q", path, n.Data, a.Val)
			}
		}
		if n.Data == "script" && n.FirstChild != nil {
			t.Errorf("%s has a script in it: %q", path, n.FirstChild.Data)
		}
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		inspect(t, path, c)
	}
}

// textOf is what a reader of a page reads.
func textOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	document, err := html.Parse(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode {
			out.WriteString(n.Data)
			out.WriteString(" ")
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(document)
	return strings.Join(strings.Fields(out.String()), " ")
}

// TestWhatIsShown: each page shows what it is about.
func TestWhatIsShown(t *testing.T) {
	p := newPort(t, admin.Options{})
	for path, want := range map[string][]string{
		"/":       {"Cluster c1", "120/s records into 1 topic", "7.3 MB", "41\u202f234 records", "1 + 1 away", "120\u202f000 waiting on gateways", "1 of 2 groups behind", "3 damaged", "41 records lost by gateways", "40 GB free of 100 GB", "standby", "amqp a:5672 kafka tls a:9093", "amqp " + hostile + " 1\u202f234 0 5.6 MB 0 B 1\u202f023 57", hostile},
		"/topics": {"sensors", "41\u202f234", "7.3 MB"},
		"/nodes": {"node " + hostile + " does not answer", "a owner draining", " 1 12/s 500 ms 90 s slow " + hostile + " meta log", "a:7401", hostile + " silent heard", "it is of an earlier version",
			"0 — none", "1 a owner", "12/s 3.0 kB/s 8 1024 4 " + hostile + " was silent", "As node a sees them"},
		"/topics?q=xyz":                   {"0 of 1", "There are none."},
		"/topic?name=sensors":             {"120/s", "0 5 50", "retention.ms", hostile, "2026-01-31 12:00:00 UTC"},
		"/gateways":                       {"away-1 away", "pump-house-3 connected", "gone revoked"},
		"/gateway?id=gone":                {"gone revoked", hostile},
		"/gateway?id=pump-house-3":        {"192.0.2.7:1234", "65 s", "9.0 MB", "every topic", "41 records lost", "live 119\u202f999", "live sensors 3 9\u202f876 00ff", "7 " + hostile + " topic: " + hostile, "free on its disk 0 B", hostile},
		"/groups":                         {"Stable", "17"},
		link("/group", "id", "g"+hostile): {"17 records behind", "sensors 0 3 20 17", "/10.0.0.1"},
		"/errors":                         {"ERROR " + hostile, "node a"},
		"/records?topic=sensors&partition=0&offset=30": {"offset 30", hostile, `{ "html": "<b>bold</b>" }`, "ff 00", "The rest is left out.", "Previous", "Next", "JSON, 22 B"},
	} {
		text := textOf(t, p.ask(path, p.own))
		for _, one := range want {
			if !strings.Contains(text, strings.Join(strings.Fields(one), " ")) {
				t.Errorf("%s does not show %q:\n%s", path, one, text)
			}
		}
	}
	if text := textOf(t, p.ask("/", p.own)); strings.Index(text, "away-1") > strings.Index(text, "pump-house-3") {
		t.Errorf("the one that is away is not first:\n%s", text)
	}
}

// TestOverviewOfSeveralShards: the front page says what is wrong, and how many shards each
// node has.
func TestOverviewOfSeveralShards(t *testing.T) {
	p := newPort(t, admin.Options{})
	s := p.answers["/v1/status"].(console.Status)
	s.Shards, s.Problems = []console.ShardStatus{{}}, []string{"shard 0 has no owner", hostile}
	s.Nodes = []console.Member{{Name: "a", Role: console.RoleOwner, Shards: 7}, {Name: "b", Role: console.NodeSilent}}
	p.answers["/v1/status"] = s
	text := textOf(t, p.ask("/", p.own))
	for _, want := range []string{"shard 0 has no owner", hostile, "a owner 7", "b silent 0", "on the disk of a"} {
		if !strings.Contains(text, want) {
			t.Errorf("without %q:\n%s", want, text)
		}
	}
}

// TestRecordsPaging: each page knows the ones beside it, and bad questions are refused.
func TestRecordsPaging(t *testing.T) {
	p := newPort(t, admin.Options{})
	for path, want := range map[string]string{
		"/records?topic=sensors":                               "max=20&offset=30&partition=0&value_bytes=65536",
		"/records?topic=sensors&partition=1":                   "max=20&offset=0&partition=1&value_bytes=65536",
		"/records?topic=sensors&offset=1":                      "max=20&offset=5&partition=0&value_bytes=65536",
		"/records?topic=sensors&offset=999":                    "max=20&offset=50&partition=0&value_bytes=65536",
		"/records?topic=sensors&at=2026-01-31T12:00":           "max=20&partition=0&since=2026-01-31T12%3A00%3A00Z&value_bytes=65536",
		"/records?topic=sensors&at=2026-01-31T12:00&offset=40": "max=20&offset=40&partition=0&value_bytes=65536",
	} {
		if w := p.ask(path, p.own); w.Code != 200 || p.queries["/v1/topics/sensors/records"] != want {
			t.Errorf("%s: %d, asked %s", path, w.Code, p.queries["/v1/topics/sensors/records"])
		}
	}
	body := p.ask("/records?topic=sensors&offset=30", p.own).Body.String()
	for _, want := range []string{`rel="prev" href="/records?offset=10&amp;partition=0&amp;topic=sensors"`, `rel="next" href="/records?offset=33&amp;partition=0&amp;topic=sensors"`} {
		if !strings.Contains(body, want) {
			t.Errorf("without %s:\n%s", want, body)
		}
	}
	for path, want := range map[string]int{"/records?topic=nosuch": 404, "/records?topic=sensors&partition=2": 404, "/records?topic=sensors&partition=x": 404,
		"/records?topic=sensors&offset=x": 400, "/records?topic=sensors&at=x": 400, "/records": 404, "/topic": 404, "/topic?name=nosuch": 404, "/gateway?id=x": 404, "/group": 404, "/group?id=x": 404} {
		if w := p.ask(path, p.own); w.Code != want || !strings.Contains(w.Body.String(), `role="alert"`) {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

// TestReaders: records need role Operate; a reader without a credential gets the login
// form, and with an anonymous port everything but records.
func TestReaders(t *testing.T) {
	p := newPort(t, admin.Options{})
	var reader string
	for reader = range p.readers {
	}
	open := newPort(t, admin.Options{Anonymous: true})
	for _, path := range all() {
		records := strings.HasPrefix(path, "/records")
		stranger, got := p.ask(path, ""), p.ask(path, reader)
		if !strings.Contains(stranger.Body.String(), `action="/login"`) || strings.Contains(stranger.Body.String(), "sensors</a>") || path != "/" && stranger.Code != 401 {
			t.Errorf("%s for a stranger: %d %s", path, stranger.Code, stranger.Body)
		}
		if records != (got.Code == 403) || !records && got.Code != 200 {
			t.Errorf("%s for a reader: %d", path, got.Code)
		}
		if got := open.ask(path, ""); records != (got.Code == 401) || !records && (got.Code != 200 || !strings.Contains(got.Body.String(), `href="/login"`)) {
			t.Errorf("%s for anybody: %d", path, got.Code)
		}
	}
}

// TestStandby: a standby's page names the owner, and says why there is nothing to see
// if that does not answer.
func TestStandby(t *testing.T) {
	p := newPort(t, admin.Options{})
	p.answers["/v1/node"] = console.Node{Name: "b", Role: console.RoleStandby, Owner: "a", HTTP: "a:8080"}
	if text := textOf(t, p.ask("/", p.own)); !strings.Contains(text, "This node, b, is a standby. The owner is a, at a:8080") || !strings.Contains(text, "Cluster c1") {
		t.Errorf("got %s", text)
	}
	p.answers["/v1/status"] = console.Error{Error: "not the owner of the shard", Owner: "a:8080"}
	w := p.ask("/", p.own)
	if text := textOf(t, w); w.Code != 503 || !strings.Contains(text, "not the owner of the shard: open the page of the owner, at a:8080") {
		t.Errorf("%d %s", w.Code, text)
	}
	p.answers["/v1/node"] = console.Node{Name: "b", Role: console.RoleRecovering}
	if text := textOf(t, p.ask("/errors", p.own)); !strings.Contains(text, "is recovering. No owner is known yet.") || !strings.Contains(text, "Recent errors of node a") {
		t.Errorf("got %s", text)
	}
}

// TestManyRows: a table shows so many rows and says that there are more.
func TestManyRows(t *testing.T) {
	p := newPort(t, admin.Options{})
	many := make([]console.Gateway, maxRows+7)
	for i := range many {
		many[i].ID = strings.Repeat("g", 1+i%9)
	}
	p.answers["/v1/gateways"] = many
	w := p.ask("/gateways", p.own)
	if n := strings.Count(w.Body.String(), "<tr>"); n != maxRows+1 || !strings.Contains(w.Body.String(), "The first 500 of 507 are shown") {
		t.Errorf("%d rows", n)
	}
}

func TestFormat(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for got, want := range map[string]string{
		size(0): "0 B", size(int64(999)): "999 B", size(uint64(1500)): "1.5 kB", size(999_999): "1.0 MB", size(4e10): "40 GB",
		count(int64(-1234567)): "-1\u202f234\u202f567", count(12): "12", rate(0): "0/s", rate(0.25): "0.2/s", rate(0.01): "<0.1/s", many(1, "topic"): "1 topic", many(2000, "topic"): "2\u202f000 topics", rate(1234.5): "1\u202f234/s",
		ago(now, now.Add(-90*time.Second)): "90 s ago", ago(now, now.Add(72*time.Hour)): "in 3 days", ago(now, time.Time{}): "—", when(now): "2026-01-31 12:00:00 UTC", duration(3 * time.Hour): "3 h",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestStaticFiles: the script is there, and no template has what the policy forbids.
func TestStaticFiles(t *testing.T) {
	p := newPort(t, admin.Options{})
	if w := p.ask("/page.js", ""); w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/javascript") {
		t.Errorf("the script: %d %v", w.Code, w.Header())
	}
	names, err := filepath.Glob("*.html")
	if err != nil || len(names) != 11 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, banned := range []string{" style=", "javascript:", " onclick", "safeHTML", "http://", "https://"} {
			if bytes.Contains(body, []byte(banned)) {
				t.Errorf("%s has %q", name, banned)
			}
		}
	}
}
