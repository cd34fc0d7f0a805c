package auth

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// world is a bucket and the administrators of its owner.
type world struct {
	*Auth
	t     *testing.T
	b     storage.Bucket
	key   []byte
	lines bytes.Buffer
}

func newWorld(t *testing.T) *world {
	a, _ := start(t, Options{})
	return &world{Auth: a, t: t, b: mem.New(), key: []byte("the key")}
}

func (w *world) take() {
	w.t.Helper()
	if err := w.TakeResets(w.t.Context(), w.b, w.key, slog.New(slog.NewTextHandler(&w.lines, nil))); err != nil {
		w.t.Fatal(err)
	}
}

// reset runs weirctl admin reset.
func (w *world) reset(at time.Time) (token string) {
	w.t.Helper()
	token, err := Reset(w.t.Context(), w.b, w.key, at)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// left are the bodies of the objects in the bucket.
func (w *world) left() (bodies [][]byte) {
	w.t.Helper()
	keys, err := w.b.List(w.t.Context(), "", "", 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, key := range keys {
		body, err := w.b.Get(w.t.Context(), key, 0, -1)
		if err != nil {
			w.t.Fatal(err)
		}
		bodies = append(bodies, body)
	}
	return bodies
}

// TestReset: the next owner knows the newest credential that was made offline.
func TestReset(t *testing.T) {
	w, now := newWorld(t), time.Now()
	w.take() // nothing
	if w.lines.Len() != 0 {
		t.Errorf("said\n%s", &w.lines)
	}
	tokens := []string{w.reset(now), w.reset(now.Add(time.Minute))}
	for _, stored := range w.left() {
		if bytes.Contains(stored, []byte(tokens[0])) || bytes.Contains(stored, []byte(tokens[1])) {
			t.Errorf("a token lies in the bucket: %s", stored)
		}
	}
	w.take()
	if caller, err := w.Administrator(admin.HashOf(tokens[1])); err != nil || caller != (admin.Caller{Name: ResetName, Role: admin.Administer}) {
		t.Errorf("the newer: %+v, %v", caller, err)
	}
	if _, err := w.Administrator(admin.HashOf(tokens[0])); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("the older: %v", err)
	}
	if bodies := w.left(); len(bodies) != 0 {
		t.Errorf("left: %s", bodies)
	}
}

// TestResetAgain: a crash before the deletion leaves the object. What the next owner
// finds then changes nothing, also if the administrator was removed meanwhile.
func TestResetAgain(t *testing.T) {
	w := newWorld(t)
	token := w.reset(time.Now())
	stored := w.left()[0]
	w.take()
	again := func() {
		t.Helper()
		if err := w.b.Create(t.Context(), "admin/0000000000000000", stored); err != nil {
			t.Fatal(err)
		}
		w.take()
	}
	again()
	if _, err := w.Administrator(admin.HashOf(token)); err != nil {
		t.Error(err)
	}
	if err := w.RemoveAdmin(t.Context(), ResetName); err != nil {
		t.Fatal(err)
	}
	again()
	if _, err := w.Administrator(admin.HashOf(token)); err == nil || len(w.left()) != 0 {
		t.Errorf("a removed administrator is back; left %s", w.left())
	}
}

// TestForgedReset: a reset made without the bucket's secret makes no administrator.
func TestForgedReset(t *testing.T) {
	other := newWorld(t)
	other.key = []byte("another key")
	other.reset(time.Now())
	for what, body := range map[string][]byte{"another key": other.left()[0], "nothing": {}, "no JSON": []byte("x"), "no hash": []byte(`{"mac":""}`)} {
		w := newWorld(t)
		if err := w.b.Create(t.Context(), "admin/1111111111111111", body); err != nil {
			t.Fatal(err)
		}
		w.take()
		if len(w.Admins()) != 0 || len(w.left()) != 1 || !strings.Contains(w.lines.String(), "admin/1111111111111111") {
			t.Errorf("%s: %+v\n%s", what, w.Admins(), &w.lines)
		}
	}
}
