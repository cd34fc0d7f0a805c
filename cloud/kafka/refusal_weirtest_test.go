//go:build weirtest

package kafka

import (
	"testing"

	"github.com/weirmq/weir/cloud/broker"
)

// TestUnconfirmed: refusals that no owner has confirmed are noticed.
func TestUnconfirmed(t *testing.T) {
	for _, change := range refusable {
		if refusedByFormer(t, change, broker.Mutations{RefusesUnasked: true}) == nil {
			t.Errorf("%s: nothing fails", change)
		}
	}
}
