package sender_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/sync/sender"
)

// TestAddressesInTurn: gateways that have the same addresses begin with the first one, and go
// on with different ones.
func TestAddressesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := make(map[string]int)
		for range 64 {
			addrs := []string{"a", "b", "c"}
			var dialled []string
			s, err := sender.New(sender.Options{Buffers: newFakeBuffers(), Addrs: addrs, Gateway: gateway, Plain: true,
				Dial: func(_ context.Context, addr string) (sender.Session, error) {
					dialled = append(dialled, addr)
					return sender.Session{}, errors.New("nobody is there")
				}})
			if err != nil {
				t.Fatal(err)
			}
			stop := run(s)
			time.Sleep(10 * time.Second)
			stop()
			second[dialled[1]]++
			if dialled[0] != "a" || dialled[3] != "a" || dialled[1] == "a" || dialled[2] == "a" || dialled[1] == dialled[2] || !slices.Equal(addrs, []string{"a", "b", "c"}) {
				t.Errorf("it dials %v", dialled[:4])
			}
		}
		if second["b"] == 0 || second["c"] == 0 {
			t.Errorf("what 64 gateways dial after the first node: %v", second)
		}
	})
}
