package peer

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/budget"
)

// TestKafka: a node passes a request of Kafka's protocol on with its client, and gets the
// answer.
func TestKafka(t *testing.T) {
	ca := newCA(t)
	q := KafkaRequest{Behalf{"User:ann & bob", "10.0.0.1"}, 19, 7, "a client=1", []byte{0, 1, 2, 255}}
	var refusal error
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Kafka = func(_ context.Context, got KafkaRequest) ([]byte, error) {
			if !reflect.DeepEqual(got, q) {
				t.Errorf("got %+v", got)
			}
			return bytes.Repeat([]byte{9}, 1<<20), refusal
		}
	})
	b := client(t, identity(t, ca, "b"))
	if answer, err := b.Kafka(t.Context(), "a", p.addr, q); err != nil || len(answer) != 1<<20 {
		t.Errorf("%d bytes, %v", len(answer), err)
	}
	refusal = errors.New("not the owner")
	if _, err := b.Kafka(t.Context(), "a", p.addr, q); err == nil || !strings.Contains(err.Error(), "not the owner") {
		t.Error(err)
	}
	long := q
	long.Body = make([]byte, maxBody+1)
	if _, err := b.Kafka(t.Context(), "a", p.addr, long); !errors.Is(err, ErrTooLong) {
		t.Errorf("a request that is too long: %v", err)
	}
	old := start(t, ca, "old", budget.GateOptions{})
	if _, err := b.Kafka(t.Context(), "old", old.addr, q); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("a node of an earlier version: %v", err)
	}
}
