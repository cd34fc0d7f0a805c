package edge

import (
	"net/http/httptest"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/edge/wal"
)

// TestAdminPort: which clients may read what from the admin port.
func TestAdminPort(t *testing.T) {
	log, err := wal.Open(wal.Options{Dir: t.TempDir(), Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e := &Edge{log: log, metrics: metrics.NewSet()}
	own := admin.NewToken()
	for _, c := range []struct {
		path                                string
		local, anonymous, credential, allow bool
	}{
		{"/healthz", true, false, false, true}, {"/readyz", true, false, false, true}, {"/metrics", true, false, false, true},
		{"/dead-letters", true, false, false, false}, {"/dead-letters", true, false, true, true}, {"/dead-letters", true, true, false, true},
		{"/healthz", false, false, false, false}, {"/metrics", false, false, false, false}, {"/dead-letters", false, false, false, false},
		{"/healthz", false, true, false, true}, {"/metrics", false, true, false, true}, {"/dead-letters", false, true, false, true},
		{"/healthz", false, false, true, true}, {"/metrics", false, false, true, true}, {"/dead-letters", false, false, true, true},
	} {
		handler := e.status(admin.New(admin.Options{Service: "weir-edge", Own: own, Anonymous: c.anonymous}), c.local)
		r := httptest.NewRequest("GET", "http://192.0.2.1"+c.path, nil)
		if c.credential {
			r.Header.Set("Authorization", "Bearer "+own)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if want := map[bool]int{true: 200, false: 401}[c.allow]; w.Code != want {
			t.Errorf("%+v: %d", c, w.Code)
		}
	}
}
