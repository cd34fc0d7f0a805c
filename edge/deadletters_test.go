package edge

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/weir"
)

// TestDeadLetters: what the cloud refused for good can be read, page by page.
func TestDeadLetters(t *testing.T) {
	log, err := wal.Open(wal.Options{Dir: t.TempDir(), Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var items []wal.Item
	for i := range maxDeadLetters + 1 {
		item := wal.Item{Seq: uint64(i + 1), Record: wal.Record{Topic: "t"}}
		item.Record.Value = fmt.Appendf(nil, "value %d", i+1)
		items = append(items, item)
	}
	if err := log.AddDead(log.Current(), weir.Live, items, "too-large"); err != nil {
		t.Fatal(err)
	}
	e := &Edge{log: log}
	page := func(query string, code int) []string {
		t.Helper()
		w := httptest.NewRecorder()
		own := admin.NewToken()
		r := httptest.NewRequest("GET", "http://localhost/dead-letters"+query, nil)
		r.Header.Set("Authorization", "Bearer "+own)
		e.status(admin.New(admin.Options{Service: "weir-edge", Own: own}), true).ServeHTTP(w, r)
		if w.Code != code {
			t.Fatalf("%q: code %d, %s", query, w.Code, w.Body)
		}
		return strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n")
	}
	if first := page("", 200); len(first) != maxDeadLetters {
		t.Errorf("%d lines on the first page", len(first))
	}
	last := page(fmt.Sprintf("?skip=%d", maxDeadLetters), 200)
	var d DeadLetter
	if err := json.Unmarshal([]byte(last[0]), &d); err != nil || len(last) != 1 || d.Seq != maxDeadLetters+1 ||
		d.Lane != "live" || d.Topic != "t" || d.Reason != "too-large" || string(d.Value) != "value 1001" {
		t.Errorf("%v: %v", err, last)
	}
	if none := page(fmt.Sprintf("?skip=%d", maxDeadLetters+1), 200); none[0] != "" {
		t.Errorf("beyond the end: %v", none)
	}
	page("?skip=x", 400)
}
