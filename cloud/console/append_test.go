package console

import (
	"strings"
	"testing"
)

// TestAppend: records that are written are there in order, with all that they have.
func TestAppend(t *testing.T) {
	n := newNode(t)
	ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"t","partitions":2}`)
	const path = "/v1/topics/t/records"
	for i := range int64(2) {
		got := ask[Written](t, n, 200, "POST", path, `{"partition":1,"records":[{"key":"aw==","value":"djE=","headers":[{"name":"h","value":"AA=="}]},{"value":null}]}`)
		if got.Offset != 2*i {
			t.Errorf("written at %d", got.Offset)
		}
	}
	all := ask[Records](t, n, 200, "GET", path+"?partition=1", "").Records
	if len(all) != 4 || string(all[2].Key) != "k" || string(all[2].Value) != "v1" || all[2].Headers[0].Name != "h" || all[3].Value != nil || all[3].Key != nil {
		t.Errorf("%+v", all)
	}
	for body, want := range map[string]string{`{"partition":2,"records":[{}]}`: "partitions 0 to 1", `{"partition":-1,"records":[{}]}`: "partitions 0 to 1",
		`{"partition":0}`: "records is empty", `{"records":[{"kay":""}]}`: "kay"} {
		if e := ask[Error](t, n, 400, "POST", path, body); !strings.Contains(e.Error, want) {
			t.Errorf("%s: %q", body, e.Error)
		}
	}
	ask[Error](t, n, 404, "POST", "/v1/topics/nosuch/records", `{"records":[{}]}`)
	ask[Topic](t, n, 200, "POST", "/v1/topics/t/configs", `{"configs":{"cleanup.policy":"compact"}}`)
	if e := ask[Error](t, n, 400, "POST", path, `{"records":[{"value":"AA=="}]}`); e.Error == "" {
		t.Error("a record without a key in a compacted topic")
	}
}
