package peer

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
)

// answers are one with a snapshot, one with slots, and one without a change.
func answers() []*Catalogue {
	at := journal.Position{Epoch: 3, Slot: 300}
	return []*Catalogue{
		{Epoch: 3, Cluster: "c", Offsets: true, Update: commitlog.CatalogueUpdate{At: at, Snapshot: []byte("everything")}},
		{Epoch: 3, Update: commitlog.CatalogueUpdate{At: at, Slots: []commitlog.CatalogueSlot{
			{At: journal.Position{Epoch: 2, Slot: 9}, Entries: []journal.Entry{{Kind: 1, Body: []byte("a")}, {Kind: 140, Body: []byte{}}}},
			{At: at, Entries: []journal.Entry{{Kind: 65535, Body: bytes.Repeat([]byte("b"), 300)}}},
		}}},
		{Cluster: "c", Update: commitlog.CatalogueUpdate{At: journal.Position{Epoch: 1 << 40, Slot: 1 << 60}}},
	}
}

// TestCatalogue: a node gets what the owner answers, which hears what it was asked.
func TestCatalogue(t *testing.T) {
	ca := newCA(t)
	var asked CatalogueQuestion
	var now *Catalogue
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Catalogue = func(_ context.Context, q CatalogueQuestion) (*Catalogue, error) {
			asked = q
			return now, nil
		}
	})
	b := client(t, identity(t, ca, "b"))
	for i, want := range answers() {
		now = want
		q := CatalogueQuestion{Epoch: int32(i), After: journal.Position{Epoch: uint64(i), Slot: 1 << 50}, Wait: time.Duration(i) * time.Second}
		got, err := b.Catalogue(t.Context(), "a", p.addr, q)
		if q.Node = "b"; err != nil || !reflect.DeepEqual(got, want) || asked != q {
			t.Errorf("asked for %+v, heard as %+v, answered %+v, %v", q, asked, got, err)
		}
	}
	if _, err := b.Catalogue(t.Context(), "a", p.addr, CatalogueQuestion{Wait: time.Hour}); err != nil || asked.Wait != maxWait {
		t.Errorf("waits %v, %v", asked.Wait, err)
	}
	now = &Catalogue{Update: commitlog.CatalogueUpdate{Snapshot: make([]byte, maxCatalogue)}}
	if _, err := b.Catalogue(t.Context(), "a", p.addr, CatalogueQuestion{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too much: %v", err)
	}
}

// TestNoCatalogue: each reason for having none is told, and nonsense is not answered.
func TestNoCatalogue(t *testing.T) {
	ca := newCA(t)
	unable := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Catalogue = func(context.Context, CatalogueQuestion) (*Catalogue, error) { return nil, errors.New("no") }
	})
	b := client(t, identity(t, ca, "b"))
	if _, err := b.Catalogue(t.Context(), "a", unable.addr, CatalogueQuestion{}); !errors.Is(err, ErrNoCopy) {
		t.Errorf("a standby: %v", err)
	}
	earlier := start(t, ca, "c", budget.GateOptions{})
	if _, err := b.Catalogue(t.Context(), "c", earlier.addr, CatalogueQuestion{}); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("an earlier version: %v", err)
	}
	l := b.link("x", "a", unable.addr)
	for _, query := range []string{"", "?epoch=x&after=1/1&wait=1", "?epoch=1&after=1&wait=1", "?epoch=1&after=1/1&wait=-1", "?epoch=1&after=1/1"} {
		res, err := l.http.Get("http://node" + cataloguePath + query)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %s", query, res.Status)
		}
	}
}

// TestInterruptedQuestion: a question that is interrupted costs no connection, one that is
// not answered in time does.
func TestInterruptedQuestion(t *testing.T) {
	ca := newCA(t)
	asked := make(chan struct{}, 1)
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Catalogue = func(ctx context.Context, _ CatalogueQuestion) (*Catalogue, error) {
			asked <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	b := client(t, identity(t, ca, "b"))
	links := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.links)
	}
	for cause, want := range map[error]int{ErrInterrupted: 1, context.DeadlineExceeded: 0} {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := b.Catalogue(ctx, "a", p.addr, CatalogueQuestion{Wait: time.Second})
			ended <- err
		}()
		<-asked
		cancel(cause)
		if err := <-ended; err == nil || links() != want {
			t.Errorf("%v: %v, %d links are left", cause, err, links())
		}
	}
}

// FuzzCatalogue: no body makes the decoder panic, and what decodes encodes to the same
// bytes.
func FuzzCatalogue(f *testing.F) {
	for _, c := range answers() {
		f.Add(c.append(nil))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := decodeCatalogue(body)
		switch {
		case err != nil && !errors.Is(err, errAnswer):
			t.Error(err)
		case err == nil && !bytes.Equal(c.append(nil), body):
			t.Errorf("%x became %x", body, c.append(nil))
		}
	})
}
