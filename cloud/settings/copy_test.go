package settings

import (
	"reflect"
	"strings"
	"testing"
)

// TestCopy: a copy says what the original says, whatever else it was sent.
func TestCopy(t *testing.T) {
	s := New()
	before := s.Changes()
	for _, body := range []string{`{"kind":"node","name":"","settings":{"a":"1"}}`, `{"kind":"node","name":"7","settings":{"b":"2"}}`, `{"kind":"group","name":"g","settings":{"c":"3"}}`} {
		if err := s.Apply(kindSettings, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if s.Changes() != before+3 {
		t.Errorf("%d changes", s.Changes()-before)
	}
	body := strings.Replace(string(s.Copy()), `{"settings":[`, `{"later":1,"settings":[{"kind":"moon","name":"x","settings":{"d":"4"}},`, 1)
	c, err := Copied([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Snapshot()) != string(s.Snapshot()) || !reflect.DeepEqual(c.Node("7"), map[string]string{"a": "1", "b": "2"}) {
		t.Errorf("%s, %v", c.Snapshot(), c.Node("7"))
	}
	if _, err := Copied([]byte("x")); err == nil {
		t.Error("nonsense is taken for a copy")
	}
	if none, err := Copied(New().Copy()); err != nil || none.Snapshot() != nil {
		t.Errorf("none: %s, %v", none.Snapshot(), err)
	}
}
