package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
)

// serve answers every request with a status and a body.
func serve(t *testing.T, status int, body any) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func host(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

// TestVerbs: what is asked of nodes, and what people see.
func TestVerbs(t *testing.T) {
	owner := serve(t, 200, []console.Topic{{Name: "sensors", Partitions: make([]console.Partition, 4), Records: 7}})
	standby := serve(t, 421, console.Error{Error: "not the owner of the shard", Owner: host(owner)})
	lost := serve(t, 421, console.Error{Error: "not the owner of the shard"})
	refusing := serve(t, 409, console.Error{Error: "topic exists"})
	stranger := serve(t, 404, "nothing here")
	circle := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(421)
		_ = json.NewEncoder(w).Encode(console.Error{Error: "not the owner of the shard", Owner: r.Host})
	}))
	t.Cleanup(circle.Close)
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"topics", "--cloud", owner.URL}, 0, "sensors", ""},
		{[]string{"topics", "--cloud", owner.URL + "/", "-o", "json"}, 0, `"records": 7`, ""},
		{[]string{"topics", "--cloud", standby.URL}, 0, "sensors", ""},
		{[]string{"topics", "--cloud", lost.URL}, 2, "", "not the owner"},
		{[]string{"topics", "--cloud", circle.URL}, 2, "", "redirect to each other"},
		{[]string{"topics", "create", "sensors", "--cloud", refusing.URL}, 2, "", "topic exists"},
		{[]string{"topics", "create", "x", "--topic-config", "a"}, 2, "", "name=value"},
		{[]string{"topics", "create", "x", "--partitions", "4294967297"}, 2, "", "--partitions"},
		{[]string{"topics", "grow", "x"}, 2, "", "--partitions"},
		{[]string{"topics", "--cloud", stranger.URL}, 2, "", "is it a weir-cloud?"},
		{[]string{"consume", "nosuch", "--cloud", owner.URL}, 2, "", `no topic "nosuch"`},
		{[]string{"join-token", "--life", "1ms"}, 2, "", "--life"},
		{[]string{"join-token", "--life", "9000d"}, 2, "", "3650d at most"},
		{[]string{"consume", "sensors", "--cloud", owner.URL, "--kafka", "x", "--kafka-user", "ann"}, 2, "", "set together"},
		{[]string{"consume", "sensors", "--cloud", owner.URL, "--kafka", "x", "--kafka-cert", "x"}, 2, "", "needs --kafka-ca"},
		{[]string{"consume", "sensors", "--cloud", owner.URL, "--kafka", "x", "--kafka-ca", "main.go"}, 2, "", "no certificate"},
		{[]string{"consume", "sensors", "--cloud", owner.URL, "--kafka", "x", "--kafka-user", "a", "--kafka-password-file", "nowhere"}, 2, "", "nowhere"},
		{[]string{"groups", "a", "b"}, 2, "", "one group"},
		{[]string{"check"}, 2, "", "URL of one bucket"},
		{[]string{"topcis"}, 2, "", "did you mean topics?"},
		{[]string{"topics", "-o", "xml"}, 2, "", "neither text nor json"},
		{nil, 0, "Verbs:", ""},
		{[]string{"--cloud", owner.URL, "topics"}, 0, "sensors", ""},
		{[]string{"-o", "json", "--cloud=" + owner.URL, "topics"}, 0, `"records": 7`, ""},
		{[]string{"-ojson", "--insecure", "topics", "--cloud", owner.URL}, 0, `"records": 7`, ""},
		{[]string{"--cloud", refusing.URL, "topics", "create", "sensors"}, 2, "", "topic exists"},
		{[]string{"--help", "topics"}, 0, "Usage:\n  weirctl topics", ""},
		{[]string{"--cloud", owner.URL, "help", "topics"}, 0, "Usage:\n  weirctl topics", ""},
		{[]string{"--cloud", owner.URL, "--help"}, 0, "Verbs:", ""},
		{[]string{"--version"}, 0, "weirctl ", ""},
		{[]string{"help"}, 0, "Verbs:", ""},
		{[]string{"help", "topics"}, 0, "Usage:\n  weirctl topics", ""},
		{[]string{"--cloud", owner.URL}, 2, "", "weirctl VERB"},
		{[]string{"--cloud"}, 2, "", "weirctl VERB"},
		{[]string{"--clodu", owner.URL, "topics"}, 2, "", "did you mean --cloud?"},
		{[]string{"--cloud", owner.URL, "topcis"}, 2, "", "did you mean topics?"},
		{[]string{"--partitions", "3", "topics", "--cloud", owner.URL}, 0, "sensors", ""},
	} {
		var stdout, stderr strings.Builder
		code := run(c.args, nil, strings.NewReader(""), &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%v: %d\n%s%s", c.args, code, stdout.String(), stderr.String())
		}
	}
}

// TestFlagsBeforeTheVerb: before the verb is known, one name must take a value for all verbs or
// for none.
func TestFlagsBeforeTheVerb(t *testing.T) {
	all := allFlags()
	for _, v := range verbs() {
		v.flagSet(&call{}).VisitAll(func(f *pflag.Flag) {
			if same := all.Lookup(f.Name); same == nil || same.NoOptDefVal != f.NoOptDefVal || same.Shorthand != f.Shorthand {
				t.Errorf("--%s of %s is another flag than that of an earlier verb", f.Name, v.name)
			}
		})
	}
}
