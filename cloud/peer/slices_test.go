package peer

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/weir"
)

// TestSlices: a node answers what another one asks about a move, and says why if it cannot.
func TestSlices(t *testing.T) {
	ca := newCA(t)
	want := weir.Move{ID: weir.MoveID{1, 2, 15: 9}, From: 3, To: 4}
	want.Slices.Add(0)
	want.Slices.Add(1023)
	var answer error
	asked := 0
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Slices = func(_ context.Context, call SlicesCall, m weir.Move) (bool, error) {
			asked++
			if call != SlicesVoid || m != want {
				t.Errorf("%s %+v", call, m)
			}
			return true, answer
		}
	})
	b := client(t, identity(t, ca, "b"))
	if moved, err := b.Slices(t.Context(), "a", p.addr, SlicesVoid, want); err != nil || !moved {
		t.Errorf("moved %v, %v", moved, err)
	}
	answer = errors.New("not the owner")
	if _, err := b.Slices(t.Context(), "a", p.addr, SlicesVoid, want); err == nil || !strings.Contains(err.Error(), "not the owner") || asked != 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
	l := newLink(p.addr, identity(t, ca, "b").ClientTLS("a"))
	defer l.close()
	for _, body := range []string{"", "{", `{"call":"void"}`, `{"call":"void","id":"00","slices":"00"}`, `{"call":"void","from":-1}`} {
		res, err := l.http.Post("http://node"+slicesPath, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != http.StatusBadRequest || asked != 2 {
			t.Errorf("%q is answered with %s", body, res.Status)
		}
	}
	old := start(t, ca, "old", budget.GateOptions{})
	if _, err := b.Slices(t.Context(), "old", old.addr, SlicesReady, want); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("a node of an earlier version: %v", err)
	}
}
