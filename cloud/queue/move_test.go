package queue

import (
	"errors"
	"testing"

	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
)

// TestCloseSlices: no vhost is created in slices that move, while what is there goes on.
func TestCloseSlices(t *testing.T) {
	s := serve(t, mem.New())
	if err := s.CreateVhost(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	var set weir.SliceSet
	set.Add(weir.SliceOfVhost("new"))
	if err := s.CloseSlices(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateVhost(t.Context(), "new"); !errors.Is(err, ErrClosed) {
		t.Errorf("a vhost whose slice moves: %v", err)
	}
	if err := s.DeleteVhost(t.Context(), "new"); !errors.Is(err, ErrClosed) {
		t.Errorf("the deletion of a vhost whose slice moves: %v", err)
	}
	if err := s.CreateVhost(t.Context(), "other"); err != nil {
		t.Errorf("a vhost whose slice stays: %v", err)
	}
	s.declare("q", nil)
	s.publish("q", "goes on")
	s.OpenSlices(set)
	if err := s.CreateVhost(t.Context(), "new"); err != nil {
		t.Errorf("the slice has not moved: %v", err)
	}
}
