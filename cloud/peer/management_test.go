package peer

import (
	"context"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/budget"
)

// TestManagementImpatient: when a node does not answer in the short time that there is for a
// list, requests that change something go on there.
func TestManagementImpatient(t *testing.T) {
	ca, began, open := newCA(t), make(chan struct{}, 2), make(chan struct{})
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Management = func(ctx context.Context, question []byte) ([]byte, error) {
			began <- struct{}{}
			select {
			case <-open:
				return question, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})
	b := client(t, identity(t, ca, "b"))
	changed := make(chan error, 1)
	go func() {
		_, err := b.Management(t.Context(), "a", p.addr, false, []byte("change"))
		changed <- err
	}()
	select {
	case <-began:
	case err := <-changed:
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := b.Management(short, "a", p.addr, true, []byte("list")); err == nil {
		t.Error("a list is answered")
	}
	close(open)
	if err := <-changed; err != nil {
		t.Errorf("a change, while a list was not answered: %v", err)
	}
}
