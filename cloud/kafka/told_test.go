package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestChangesAreTold: a change of users, quotas or ACLs is answered when the other nodes have
// had time to apply it, which let clients in or refuse them. It may come through any node.
func TestChangesAreTold(t *testing.T) {
	p := newTwoOwners(t)
	users := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	users.Upsertions = []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{{Name: "new", Mechanism: 1, Iterations: 4096, Salt: make([]byte, 16), SaltedPassword: make([]byte, 32)}}
	limit := kmsg.NewPtrAlterClientQuotasRequest()
	limit.Entries = []kmsg.AlterClientQuotasRequestEntry{{
		Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user", Name: kmsg.StringPtr("ann")}},
		Ops:    []kmsg.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: 1e6}},
	}}
	for _, d := range []*door{p.b, p.a} {
		for _, q := range []kmsg.Request{users, limit} {
			before, err := p.a.broker.CatalogueReached()
			if err != nil {
				t.Fatal(err)
			}
			p.told.Store(nil)
			if _, err := d.client(t).Request(within30s(t), q); err != nil {
				t.Fatal(err)
			}
			after, err := p.a.broker.CatalogueReached()
			if told := p.told.Load(); err != nil || told == nil || told.Before(after) {
				t.Errorf("key %d: answered after a wait for %v, the change is at %v, %v", q.Key(), told, after, err)
			}
			if d == p.b && !before.Before(after) {
				t.Errorf("key %d: nothing has changed", q.Key())
			}
		}
		for _, q := range []kmsg.Request{kmsg.NewPtrCreateACLsRequest(), kmsg.NewPtrDeleteACLsRequest()} {
			p.told.Store(nil)
			if _, err := d.client(t).Request(within30s(t), q); err != nil {
				t.Fatal(err)
			}
			if p.told.Load() == nil {
				t.Errorf("key %d is answered without a wait for other nodes", q.Key())
			}
		}
	}
}
