package edge

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
)

// TestSessions: the admin port lists sessions, and an empty list is one.
func TestSessions(t *testing.T) {
	g, _ := start(t, t.TempDir(), Options{})
	w := httptest.NewRecorder()
	g.sessions(w, httptest.NewRequest("GET", "/sessions", nil))
	var all []Session
	if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil || w.Code != 200 || all == nil || len(all) != 0 {
		t.Errorf("%d %v: %s", w.Code, err, w.Body)
	}
}
