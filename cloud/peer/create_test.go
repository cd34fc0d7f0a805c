package peer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// TestCreate: a node creates a topic when another one asks for that, and says why if it
// cannot.
func TestCreate(t *testing.T) {
	ca := newCA(t)
	want := state.Topic{ID: weir.TopicID{1, 2}, Name: "t", Partitions: 3, Configs: map[string]string{"a": "b"}, Created: 7}
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Create = func(_ context.Context, name string, partitions int32, configs map[string]string) (state.Topic, error) {
			switch {
			case name == "..":
				return state.Topic{}, fmt.Errorf("%w: %q", state.ErrInvalidTopic, name)
			case name != "t" || partitions != -1 || configs["a"] != "b":
				return state.Topic{}, errors.New("something else was asked for")
			}
			return want, nil
		}
	})
	b := client(t, identity(t, ca, "b"))
	if got, err := b.Create(t.Context(), "a", p.addr, "t", -1, want.Configs); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := b.Create(t.Context(), "a", p.addr, "..", 1, nil); !errors.Is(err, state.ErrInvalidTopic) {
		t.Errorf("a name that no topic can have: %v", err)
	}
	if _, err := b.Create(t.Context(), "a", p.addr, "x", 1, nil); err == nil || errors.Is(err, state.ErrInvalidTopic) {
		t.Errorf("a topic that is not created: %v", err)
	}
	old := start(t, ca, "old", budget.GateOptions{})
	if _, err := b.Create(t.Context(), "old", old.addr, "t", 1, nil); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("a node of an earlier version: %v", err)
	}
}
