package wire

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

// TestTableJSON: a table as JSON, and back.
func TestTableJSON(t *testing.T) {
	var inner, b Builder
	inner.Add("b", Int32(-7))
	nested, _ := inner.Table()
	b.Add("twice", Text("first"))
	b.Add("twice", Text("second"))
	b.Add("bool", Bool(true))
	b.Add("double", Double(1.5))
	b.Add("nan", Double(math.NaN()))
	b.Add("time", Timestamp(1_700_000_000))
	b.Add("bytes", Bytes([]byte{0xff, 0}))
	b.Add("decimal", Value{[]byte{'D', 2, 0, 0, 1, 0x2c}})
	b.Add("void", Void())
	b.Add("list", List(Int64(math.MaxInt64), Text("ä")))
	b.Add("nested", Nested(nested))
	table, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(table)
	want := `{"bool":true,"bytes":"Not UTF-8, base64 is: /wA=","decimal":3,"double":1.5,"list":[9223372036854775807,"ä"],"nan":"NaN","nested":{"b":-7},"time":1700000000,"twice":"first","void":null}`
	if err != nil || string(text) != want {
		t.Fatalf("%s\n%v", text, err)
	}
	var back Table
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if n, ok := back.Lookup("time").Int(); !ok || n != 1_700_000_000 || back.Lookup("time").Kind() != KindInt64 {
		t.Errorf("time is %v", back.Lookup("time"))
	}
	if again, err := json.Marshal(back); err != nil || string(again) != want {
		t.Errorf("%s\n%v", again, err)
	}
}

func TestTableJSONRefused(t *testing.T) {
	kept := Table{Text("x").raw}
	for _, text := range []string{
		`[]`, `1`, `"x"`, `{"a":1e999}`, `{"a":[1e999]}`, `{"a":{"b":1e999}}`,
		`{"` + strings.Repeat("n", 256) + `":1}`, `{"a":{"` + strings.Repeat("n", 256) + `":1}}`,
		`{"a":` + strings.Repeat("[", 80) + strings.Repeat("]", 80) + `}`,
	} {
		table := kept
		if err := json.Unmarshal([]byte(text), &table); err == nil || string(table.raw) != string(kept.raw) {
			t.Errorf("%.60s: %v, %v", text, err, table)
		}
	}
	var none Table
	if err := json.Unmarshal([]byte(`{}`), &none); err != nil || len(none.raw) != 0 {
		t.Error(err, none)
	}
}

func TestPropertiesJSON(t *testing.T) {
	const text = `{"content_type":"text/plain","content_encoding":"","headers":{"a":1},"delivery_mode":2,"priority":3,"correlation_id":"c","reply_to":"r","expiration":"60000","message_id":"m","timestamp":7,"type":"t","user_id":"u","app_id":"a","cluster_id":"cl"}`
	var p Properties
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	encoded, err := p.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	var again Properties
	if err := again.Decode(encoded); err != nil {
		t.Fatal(err)
	}
	if got, err := json.Marshal(&again); err != nil || string(got) != text {
		t.Errorf("%s\n%v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"priority":0,"other":1}`), &p); err != nil || p.Flags != HasPriority {
		t.Errorf("%v, %v", p, err)
	}
	for _, wrong := range []string{`{"priority":256}`, `{"headers":[]}`, `{"expiration":1}`, `[]`} {
		if err := json.Unmarshal([]byte(wrong), &p); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}
