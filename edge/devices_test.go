package edge

import "testing"

// TestQuotaHoldsTheState: the local log, the largest state file with the
// copy that a rewrite makes of it, and refused letters fit into the quota.
func TestQuotaHoldsTheState(t *testing.T) {
	for _, o := range []Options{
		{Quota: 16 << 20}, {Quota: 1 << 30}, {Quota: 1 << 40},
		{Quota: 1 << 30, Devices: Devices{State: 100 << 20}},
	} {
		state := o.state()
		if got := o.logQuota() + stateCopies*state + o.letterQuota() + o.owed(); got != o.Quota || o.logQuota() < o.Quota/2 {
			t.Errorf("%+v: the log has %d bytes, the state %d", o, o.logQuota(), state)
		}
		if o.Devices.State == 0 && state > maxState || state < 256<<10 {
			t.Errorf("%+v: %d bytes of state", o, state)
		}
		if l := o.limits(); int64(l.MaxState) != state || l.MaxClientState > l.MaxState/2 {
			t.Errorf("%+v: %+v", o, l)
		}
	}
}
