package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/console"
)

// TestProduce: values and lines are written through the admin port, in order, in
// requests that it takes; a key always goes to the partition that Kafka's clients
// choose.
func TestProduce(t *testing.T) {
	written := make(map[int32][]string)
	created := ""
	requests, refuse := 0, false
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/topics", func(w http.ResponseWriter, _ *http.Request) {
		admin.Reply(w, 200, []console.Topic{{Name: "t", Partitions: make([]console.Partition, 4)}})
	})
	mux.HandleFunc("POST /v1/topics", func(w http.ResponseWriter, r *http.Request) {
		var made console.NewTopic
		if err := json.NewDecoder(r.Body).Decode(&made); err != nil {
			t.Error(err)
		}
		created = made.Name
		admin.Reply(w, 200, console.Topic{Name: made.Name, Partitions: make([]console.Partition, 1)})
	})
	mux.HandleFunc("POST /v1/topics/{name}/records", func(w http.ResponseWriter, r *http.Request) {
		if requests++; refuse {
			admin.Reply(w, 400, console.Error{Error: "too large"})
			return
		}
		var got console.NewRecords
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&got); err != nil {
			t.Error(err)
		}
		for _, one := range got.Records {
			written[got.Partition] = append(written[got.Partition], string(one.Key)+"="+string(one.Value))
		}
		admin.Reply(w, 200, console.Written{})
	})
	node := httptest.NewServer(mux)
	t.Cleanup(node.Close)
	produce := func(stdin string, args ...string) (int, string) {
		clear(written)
		requests = 0
		var out strings.Builder
		code := run(append([]string{"produce", "--cloud", node.URL}, args...), nil, strings.NewReader(stdin), &out, &out)
		return code, out.String()
	}
	// Where Kafka's DefaultPartitioner puts this key among four: murmur2("21") is -973932308.
	if code, out := produce("", "t", "v", "--key", "21"); code != 0 || out != "1 record is durable in t\n" || fmt.Sprint(written) != fmt.Sprintf("map[%d:[21=v]]", (-973932308&0x7fffffff)%4) {
		t.Errorf("a value: %d %s, %v", code, out, written)
	}
	var lines strings.Builder
	for i := range 1200 {
		fmt.Fprintln(&lines, i)
	}
	if code, out := produce(lines.String(), "t", "--key", "21"); code != 0 || out != "1200 records are durable in t\n" || requests != 3 {
		t.Errorf("lines: %d %s, %d requests", code, out, requests)
	}
	for _, all := range written {
		for i, one := range all {
			if one != fmt.Sprintf("21=%d", i) {
				t.Fatalf("record %d is %s", i, one)
			}
		}
	}
	large := strings.Repeat("x", 20_000)
	if code, out := produce(strings.Repeat(large+"\n", 7), "t", "--key", "21"); code != 0 || requests != 4 {
		t.Errorf("large ones: %d %s, %d requests", code, out, requests)
	}
	if code, out := produce("a\n"+strings.Repeat(large, 3)+"\nb\n", "t", "--key", "21"); code != 2 || !strings.Contains(out, "record 2 has 60002 bytes") || !strings.Contains(out, "--kafka") || len(written) != 1 {
		t.Errorf("one that is too large: %d %s, %v", code, out, written)
	}
	if code, out := produce("", "new", "v"); code != 0 || created != "new" || !strings.Contains(out, "topic new created, with 1 partitions") {
		t.Errorf("a new topic: %d %s", code, out)
	}
	refuse = true
	if code, out := produce("", "t", "v"); code != 2 || !strings.Contains(out, "too large (0 records before are durable)") {
		t.Errorf("refused: %d %s", code, out)
	}
}
