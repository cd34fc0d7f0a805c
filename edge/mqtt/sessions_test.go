package mqtt

import (
	"context"
	"errors"
	"reflect"
	"testing"
)

// TestSessions: sessions are listed with what waits for them, connected or not.
func TestSessions(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		list := func() []SessionInfo {
			t.Helper()
			all, err := s.Sessions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		if all := list(); len(all) != 0 {
			t.Errorf("at first: %+v", all)
		}
		kept, _ := joinKept(t, s, "kept")
		kept.subscribe(filter("b/#", 1), filter("a/+", 1))
		kept.disconnect()
		here := join(t, s, 5, "here", true)
		here.subscribe(filter("b/x", 1))
		from := join(t, s, 4, "from", true)
		from.publish("b/x", "hello", 1, 1)
		here.expect(3) // PUBLISH, which is not acknowledged
		from.publish("b/x", "again", 1, 2)
		here.expect(3)
		all := list()
		if len(all) != 3 {
			t.Fatalf("%+v", all)
		}
		if one := all[0]; one.Client != "from" || one.Address != "pipe" || one.InFlight != 0 || len(one.Subscriptions) != 0 {
			t.Errorf("%+v", one)
		}
		if one := all[1]; one.Client != "here" || one.Address == "" || one.InFlight != 2 || one.Queued != 0 {
			t.Errorf("%+v", one)
		}
		if one := all[2]; one.Client != "kept" || one.Address != "" || !reflect.DeepEqual(one.Subscriptions, []string{"a/+", "b/#"}) || one.InFlight != 0 || one.Queued != 2 || one.QueuedBytes < 10 {
			t.Errorf("%+v", one)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Sessions(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("of a server that is closed: %v", err)
		}
	})
}
