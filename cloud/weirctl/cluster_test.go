package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/measure"
)

// fakeNode answers like an owner with one topic.
type fakeNode struct {
	mu      sync.Mutex // guards records
	records [][]console.Record
	asked   chan string // what it was asked for, the first hundred
	url     string
}

func newFakeNode(t *testing.T, partitions int) *fakeNode {
	t.Helper()
	n := &fakeNode{records: make([][]console.Record, partitions), asked: make(chan string, 100)}
	mux := http.NewServeMux()
	topic := func() console.Topic {
		made := console.Topic{Name: "t", ID: "77", Created: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Configs: map[string]string{"retention.ms": "604800000", "retention.bytes": "50000000000"}}
		for _, all := range n.records {
			made.Partitions = append(made.Partitions, console.Partition{End: int64(len(all)), Bytes: 1500})
			made.Records += int64(len(all))
		}
		return made
	}
	mux.HandleFunc("GET /v1/topics", func(w http.ResponseWriter, _ *http.Request) { admin.Reply(w, 200, []console.Topic{topic()}) })
	mux.HandleFunc("GET /v1/topics/t", func(w http.ResponseWriter, _ *http.Request) { admin.Reply(w, 200, topic()) })
	mux.HandleFunc("GET /v1/topics/t/records", func(w http.ResponseWriter, r *http.Request) { n.answer(w, r) })
	mux.HandleFunc("GET /v1/groups", func(w http.ResponseWriter, r *http.Request) {
		g := console.Group{ID: "g", State: "Stable", Members: 1, Lag: 5}
		if r.URL.Query().Get("id") != "" {
			g.Offsets = []console.GroupOffset{{Topic: "t", Partition: 1, Committed: 2, End: 7, Lag: 5, Member: "m-1"}}
			g.Details = []console.GroupMember{{ID: "m-1", Client: "app", Host: "/10.0.0.1", Partitions: []string{"t/1"}}}
		}
		if r.URL.Query().Get("id") == "late" {
			g.ID, g.Unknown = "late", 1
			g.Offsets = append(g.Offsets, console.GroupOffset{Topic: "t", Partition: 2, Committed: 3, End: -1, Lag: -1})
		}
		admin.Reply(w, 200, []console.Group{g})
	})
	mux.HandleFunc("GET /v1/gateways", func(w http.ResponseWriter, _ *http.Request) {
		admin.Reply(w, 200, []console.Gateway{{ID: "pump-3"}, {ID: "b`reboot`"}})
	})
	mux.HandleFunc("POST /v1/topics", func(w http.ResponseWriter, r *http.Request) {
		var made console.NewTopic
		if err := json.NewDecoder(r.Body).Decode(&made); err != nil {
			t.Error(err)
		}
		admin.Reply(w, 200, console.Topic{Name: made.Name, Configs: made.Configs, Partitions: make([]console.Partition, max(1, made.Partitions))})
	})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		select {
		case n.asked <- r.Method + " " + r.URL.RequestURI():
		default:
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	n.url = s.URL
	return n
}

// answer gives out at most two records at once.
func (n *fakeNode) answer(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	partition, _ := strconv.Atoi(q.Get("partition"))
	offset, _ := strconv.Atoi(q.Get("offset"))
	most, _ := strconv.Atoi(q.Get("max"))
	if q.Get("since") != "" {
		offset = 1
	}
	all := n.records[partition]
	page := console.Records{Topic: "t", Partition: int32(partition), End: int64(len(all)), Records: []console.Record{}}
	page.Records = append(page.Records, all[min(offset, len(all)):min(offset+min(most, 2), len(all))]...)
	page.Next = int64(offset + len(page.Records))
	admin.Reply(w, 200, page)
}

// write adds a record.
func (n *fakeNode) write(partition int, key, value []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records[partition] = append(n.records[partition], console.Record{Offset: int64(len(n.records[partition])), Time: time.Unix(1_800_000_000, 0).UTC(),
		Key: key, Value: value, Size: int64(len(value)), Headers: []console.RecordHeader{{Name: "h", Value: []byte("v")}}})
}

// weirctl runs a command, words with blanks between them.
func weirctl(words string) (code int, stdout, stderr string) {
	var out, wrong strings.Builder
	code = run(strings.Fields(words), nil, strings.NewReader(""), &out, &wrong)
	return code, out.String(), wrong.String()
}

// TestConsume: records are read through the admin port, from where one says, and are
// printed a line each.
func TestConsume(t *testing.T) {
	n := newFakeNode(t, 2)
	for i := range 5 {
		n.write(0, []byte("k"), fmt.Appendf(nil, "a%d", i))
	}
	n.write(1, nil, []byte(`{ "b": 0 }`))
	n.write(1, []byte{1}, []byte("two\nlines\x1b[2J"))
	n.write(1, nil, []byte("\xa1\x61a\x01")) // CBOR: {"a": 1}
	for args, want := range map[string]string{
		"":                                      "k\ta0\nk\ta1\nk\ta2\nk\ta3\nk\ta4\n\t{ \"b\": 0 }\n01\t74776f0a6c696e65731b5b324a\n\t{\"a\":1}\n",
		"--partition 1 --value json":            "\t{\"b\":0}\n01\ttwo\\nlines\\x1b[2J\n\t{\"a\":1}\n",
		"--partition 1 --value hex --max 1":     "\t7b202262223a2030207d\n",
		"--partition 1 --value text --offset 2": "\t\\xa1aa\\x01\n",
		"--max 3":                               "k\ta0\nk\ta1\nk\ta2\n",
		"--count 1":                             "k\ta0\n",
		"--from beginning --max 1":              "k\ta0\n",
		"--offset -1":                           "k\ta4\n\t{\"a\":1}\n",
		"--offset 4 --partition 0":              "k\ta4\n",
		"--offset 99":                           "",
		"--partition 0 --since 10m":             "k\ta1\nk\ta2\nk\ta3\nk\ta4\n",
		"--partition 0 --since 2026-01-31T12:00:00Z --max 1": "k\ta1\n",
	} {
		if code, out, wrong := weirctl("consume t --cloud " + n.url + " " + args); code != 0 || out != want {
			t.Errorf("%s: %d %q, want %q\n%s", args, code, out, want, wrong)
		}
	}
	_, out, _ := weirctl("consume t -o json --partition 1 --max 2 --cloud " + n.url)
	if want := `{"partition":1,"offset":1,"time":"2027-01-15T08:00:00Z","key":"\u0001","value":"two\nlines\u001b[2J","headers":[{"name":"h","value":"v"}]}` + "\n"; !strings.HasSuffix(out, want) {
		t.Errorf("as JSON: %s", out)
	}
	for args, want := range map[string]string{"--partition 2": "partitions 0 to 1", "--value xml": "not auto", "--offset x": "not start", "--since x": "neither a time span", "--max -1": "is negative",
		"--since 1h --offset 3": "one of them", "--group g --partition 1": "--group reads all partitions", "--kafka x --since 1h": "--kafka reads all partitions"} {
		if code, _, wrong := weirctl("consume t --cloud " + n.url + " " + args); code != 2 || !strings.Contains(wrong, want) {
			t.Errorf("%s: %d %s", args, code, wrong)
		}
	}
}

// output is an output that says when it was written to.
type output struct {
	mu   sync.Mutex // guards text
	text strings.Builder
	more chan struct{}
}

func (s *output) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *output) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestFollow: consume waits for what comes, in every partition, and ends without an
// error when it is interrupted.
func TestFollow(t *testing.T) {
	n := newFakeNode(t, 2)
	n.write(0, nil, []byte("before"))
	ctx, interrupt := context.WithCancel(t.Context())
	out := &output{more: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() {
		ended <- dispatch(ctx, []string{"consume", "t", "--offset", "end", "--cloud", n.url}, nil, &call{stdin: strings.NewReader(""), stdout: out, stderr: out})
	}()
	wait := func(want string) {
		t.Helper()
		for deadline := time.After(20 * time.Second); !strings.Contains(out.String(), want); {
			select {
			case <-out.more:
			case err := <-ended:
				t.Fatalf("ended: %v\n%s", err, out)
			case <-deadline:
				t.Fatalf("%q did not come:\n%s", want, out)
			}
		}
	}
	for started, late := false, time.After(20*time.Second); !started; {
		select {
		case asked := <-n.asked:
			started = strings.Contains(asked, "partition=1")
		case <-late:
			t.Fatal("nothing was read")
		}
	}
	n.write(1, nil, []byte("first"))
	wait("first")
	n.write(0, nil, []byte("second"))
	wait("second")
	interrupt()
	if err := <-ended; err != nil || strings.Contains(out.String(), "before") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestClusterVerbs: what status, topics and groups print, and what they refuse.
func TestClusterVerbs(t *testing.T) {
	n := newFakeNode(t, 2)
	n.write(0, nil, []byte("a"))
	for args, want := range map[string]string{
		"topics":     "TOPIC   PARTITIONS   RECORDS   SIZE   RECORDS/S",
		"topics t":   "t has 1 records, 0 B at rest, and gets 0 records/s. Created 2026-01-31 12:00:00 UTC, id 77.",
		"topics t ":  "1.5 kB",
		"topics t  ": "retention.bytes   50000000000   50 GB",
		"topics create x --topic-config retention.ms=7d --topic-config max.message.bytes=2MB -o json": `"retention.ms": "604800000"`,
		"groups":       "g       Stable         1     5",
		"groups g":     "g is Stable with 1 members, 5 records behind.",
		"groups g ":    "t               1           2     7     5   m-1",
		"groups late":  "late is Stable with 1 members, at least 5 records behind.",
		"groups late ": "t               2           3   ?     ?",
		"help topics":  "weirctl topics [NAME",
		"help":         "Verbs:",
	} {
		if code, out, wrong := weirctl(args + " --cloud " + n.url); code != 0 && !strings.HasPrefix(args, "help") || !strings.Contains(out, want) {
			if strings.HasPrefix(args, "help") {
				if code, out, wrong := weirctl(args); code != 0 || !strings.Contains(out, want) {
					t.Errorf("%s: %d\n%s%s", args, code, out, wrong)
				}
				continue
			}
			t.Errorf("%s: %d\n%s%s", args, code, out, wrong)
		}
	}
	for args, want := range map[string]string{
		"topics create x --partitions 0":                   "--partitions 0 is less than 1",
		"topics grow x --partitions 0":                     "less than 1",
		"topics creat x":                                   "did you mean create?",
		"topics create x --topic-config retention.ms=soon": "--topic-config retention.ms: \"soon\" is not a time span",
		"topics create x --topic-config retention.bytes=x": "not a size",
		"groups delete":                                    "groups takes no argument",
		"gateways rest x":                                  "did you mean reset?",
		"status now":                                       `no argument "now"`,
		"completion csh":                                   "bash, zsh or fish",
		"help tipocs":                                      "did you mean topics?",
	} {
		if code, _, wrong := weirctl(args); code != 2 || !strings.Contains(wrong, want) {
			t.Errorf("%s: %d %s", args, code, wrong)
		}
	}
}

func TestStatus(t *testing.T) {
	now := time.Now()
	sound := console.Status{Cluster: "c1", Epoch: 3, Version: "v1", Nodes: []console.Member{{Name: "a", Role: console.RoleOwner, Since: now.Add(-time.Hour)},
		{Name: "b", Role: console.RoleStandby, Since: now.Add(-2 * time.Minute), Heard: now}}, Topics: 2, Partitions: 8, Records: 1000, Bytes: 2_500_000, Rate: 1.5,
		Gateways: console.GatewayCount{Connected: 4, Away: 1, Buffered: 77, Lost: 3}, Groups: 2, Lagging: []console.Group{{ID: "g", Lag: 9}}, Disk: console.Disk{Path: "data/cloud", Free: 5e9, Size: 1e10},
		Doors: []measure.Listener{{Door: "http"}, {Door: "kafka", Counts: listener.Counts{Listener: "tls", GateCounts: budget.GateCounts{Open: 7}, Received: 1000, Sent: 2_500_000, Requests: 12, Errors: 3}}}}
	damaged := sound
	damaged.Damaged = 2
	for _, c := range []struct {
		status console.Status
		args   string
		code   int
		want   []string
	}{
		{sound, "", 0, []string{"cluster    c1, epoch 3, version v1", "owner      a (for 1h", "standbys   b (for 2m, last heard 0s ago)", "4 connected, 1 away; 77 records wait on them; 3 records lost since they joined (topic weir.gaps)",
			"2 with 8 partitions: 1000 records, 2.5 MB at rest, 1.5 records/s", "groups     2, behind: g by 9 records", "damage     none", "5 GB free of 10 GB (the owner's data/cloud)",
			"doors      http: 0 connections, 0 B received, 0 B sent, 0 requests, 0 errors\n           kafka tls: 7 connections, 1 kB received, 2.5 MB sent, 12 requests, 3 errors\n"}},
		{damaged, "", 1, []string{"2 pieces of the log cannot be read"}},
		{damaged, "-o json", 1, []string{`"damaged_pieces": 2`}},
	} {
		node := serve(t, 200, c.status)
		code, out, wrong := weirctl("status --cloud " + node.URL + " " + c.args)
		if code != c.code {
			t.Errorf("%d\n%s%s", code, out, wrong)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("without %q:\n%s", want, out)
			}
		}
	}
}

// silent takes connections and says nothing, like a node that is stopped.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}

// TestSeveralNodes: the next node is asked when one does not answer; what may have been
// done is not asked for again.
func TestSeveralNodes(t *testing.T) {
	n := newFakeNode(t, 1)
	gone := httptest.NewServer(nil)
	gone.Close()
	standby := serve(t, 421, console.Error{Error: "not the owner of the shard"})
	starting := serve(t, 503, console.Error{Error: "bucket does not answer"})
	refusing := serve(t, 409, console.Error{Error: "topic exists"})
	hung := silent(t)
	for _, c := range []struct {
		args         string
		code         int
		stdout, want string
	}{
		{"topics --cloud " + gone.URL + "," + n.url, 0, "TOPIC", ""},
		{"topics --cloud " + starting.URL + "," + standby.URL + "," + n.url, 0, "TOPIC", ""},
		{"topics --cloud " + hung + "," + n.url, 0, "TOPIC", ""},
		{"topics create x --cloud " + gone.URL + "," + standby.URL + "," + n.url, 0, "x", ""},
		{"topics create x --cloud " + starting.URL + "," + n.url, 2, "", "bucket does not answer"},
		{"topics create x --cloud " + refusing.URL + "," + n.url, 2, "", "topic exists"},
		{"topics --cloud " + gone.URL + "," + standby.URL, 2, "", "no node of --cloud has an answer"},
		{"topics --cloud " + gone.URL, 2, "", "reach the cloud at " + gone.URL},
		{"login --cloud " + gone.URL + "," + n.url, 2, "", "several nodes"},
	} {
		code, out, wrong := weirctl(c.args)
		if code != c.code || !strings.Contains(out, c.stdout) || !strings.Contains(wrong, c.want) {
			t.Errorf("%s: %d\n%s%s", c.args, code, out, wrong)
		}
		for _, node := range []*httptest.Server{gone, standby} {
			if strings.Count(wrong, host(node)) > 1 {
				t.Errorf("%s: says %s twice:\n%s", c.args, host(node), wrong)
			}
		}
	}
}

// TestComplete: what a shell offers.
func TestComplete(t *testing.T) {
	n := newFakeNode(t, 1)
	for words, want := range map[string]string{
		"":                         "acls admin check completion consume gateways groups help join-token login logout nodes permissions produce queues quotas sessions shards status topics upgrade users version vhosts",
		"to":                       "topics",
		"help gr":                  "groups",
		"nosuch ":                  "",
		"topics ":                  "list create delete grow alter t",
		"topics cr":                "create",
		"topics delete ":           "t",
		"topics create ":           "",
		"consume ":                 "t",
		"consume t ":               "",
		"consume t --value ":       "auto json text hex",
		"consume t --val":          "--value",
		"consume t --cou":          "",
		"groups g":                 "g",
		"gateways reset ":          "pump-3",
		"completion ":              "bash zsh fish",
		"check --rep":              "--repair",
		"topics -o ":               "text json",
		"--clo":                    "--cloud",
		"-o ":                      "text json",
		"-o json gr":               "groups",
		"-o json topics delete ":   "t",
		"-o json topics --parti":   "--partitions",
		"--nosuch ":                "",
		"topics --cloud http://x ": "list create delete grow alter",
	} {
		var out strings.Builder
		all := append([]string{completeWord}, strings.Split(words, " ")...)
		code := run(all, []string{"WEIRCTL_CLOUD=" + n.url}, nil, &out, &out)
		if got := strings.Join(strings.Fields(out.String()), " "); code != 0 || got != want {
			t.Errorf("%q: %d %q, want %q", words, code, got, want)
		}
	}
}

// TestScripts: a shell takes its script, and completes with it.
func TestScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, out, wrong := weirctl("completion " + shell)
		if code != 0 || !strings.Contains(out, "weirctl __complete") {
			t.Errorf("%s: %d\n%s%s", shell, code, out, wrong)
		}
	}
}
