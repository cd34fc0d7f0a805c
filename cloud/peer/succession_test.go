package peer

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/budget"
)

// TestSuccession: the server answers a step, also late. A node of a version that does not
// know the verb, or a step that cannot be read, is an error.
func TestSuccession(t *testing.T) {
	ca := newCA(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	p := startWith(t, ca, "a", budget.GateOptions{Max: 8, Strangers: 4}, func(o *Options) {
		o.Succession = func(ctx context.Context, step []byte) ([]byte, error) {
			switch string(step) {
			case "garbage":
				return nil, errors.New("step cannot be read")
			case "wait":
				close(entered)
				<-leave
			}
			return append([]byte("done "), step...), nil
		}
	})
	b := client(t, identity(t, ca, "b"))
	waited := make(chan error, 1)
	go func() {
		got, err := b.Succession(t.Context(), "a", p.addr, []byte("wait"))
		if err == nil && string(got) != "done wait" {
			err = errors.New(string(got))
		}
		waited <- err
	}()
	<-entered
	if got, err := b.Succession(t.Context(), "a", p.addr, []byte("take")); err != nil || string(got) != "done take" {
		t.Errorf("while another one waits: %q, %v", got, err)
	}
	close(leave)
	if err := <-waited; err != nil {
		t.Error(err)
	}
	for _, step := range []string{"garbage", strings.Repeat("x", 2*maxSuccession)} {
		if got, err := b.Succession(t.Context(), "a", p.addr, []byte(step)); err == nil || errors.Is(err, ErrUnknownVerb) {
			t.Errorf("%d bytes: %q, %v", len(step), got, err)
		}
	}
	earlier := startWith(t, ca, "c", budget.GateOptions{Max: 8, Strangers: 4}, func(*Options) {})
	if _, err := b.Succession(t.Context(), "c", earlier.addr, nil); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("an earlier version: %v", err)
	}
}
