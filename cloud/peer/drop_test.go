package peer

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// TestDrop: a node drops a topic from its shard when another one asks for that, and says
// why if it cannot.
func TestDrop(t *testing.T) {
	ca := newCA(t)
	topic := weir.TopicID{1, 2, 3}
	var answer error
	asked := 0
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Drop = func(_ context.Context, shard uint32, id weir.TopicID, at journal.Position) error {
			asked++
			if shard != 7 || id != topic || at != (journal.Position{Epoch: 4, Slot: 1 << 60}) {
				t.Errorf("shard %d, topic %v, %v", shard, id, at)
			}
			return answer
		}
	})
	b := client(t, identity(t, ca, "b"))
	drop := func() error {
		return b.Drop(t.Context(), "a", p.addr, 7, topic, journal.Position{Epoch: 4, Slot: 1 << 60})
	}
	if err := drop(); err != nil || asked != 1 {
		t.Errorf("asked %d times, %v", asked, err)
	}
	answer = errors.New("not the owner")
	if err := drop(); err == nil || !strings.Contains(err.Error(), "not the owner") || asked != 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
	l := newLink(p.addr, identity(t, ca, "b").ClientTLS("a"))
	defer l.close()
	for _, body := range []string{"", "{", `{"shard":7,"topic":"zz"}`, `{"shard":7,"topic":"01"}`, `{"shard":-1}`} {
		res, err := l.http.Post("http://node"+dropPath, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != http.StatusBadRequest || asked != 2 {
			t.Errorf("%q is answered with %s", body, res.Status)
		}
	}
	old := start(t, ca, "old", budget.GateOptions{})
	if err := b.Drop(t.Context(), "old", old.addr, 7, topic, journal.Position{Epoch: 1}); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("a node of an earlier version: %v", err)
	}
}
