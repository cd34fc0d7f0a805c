//go:build weirtest

package storage

import "testing"

// TestSumChecked: a wrong sum does not get as far as a store.
func TestSumChecked(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a wrong sum is believed")
		}
	}()
	WithSum(t.Context(), []byte("some bytes"), 7)
}
