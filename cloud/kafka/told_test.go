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
	for i, d := range []*door{p.b, p.a} {
		limit.Entries[0].Ops[0].Value = 1e6 + float64(i)
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
	}
}

// TestACLsAreTold: a change of ACLs is answered like one of users, and what changes nothing
// without a wait for other nodes.
func TestACLsAreTold(t *testing.T) {
	p := newTwoOwnersWith(t, "User:ANONYMOUS", true)
	create, remove := kmsg.NewPtrCreateACLsRequest(), kmsg.NewPtrDeleteACLsRequest()
	create.Creations = []kmsg.CreateACLsRequestCreation{{ResourceType: kmsg.ACLResourceTypeTopic, ResourceName: "t", ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral,
		Principal: "User:ann", Host: "*", Operation: kmsg.ACLOperationRead, PermissionType: kmsg.ACLPermissionTypeAllow}}
	remove.Filters = []kmsg.DeleteACLsRequestFilter{{ResourceType: kmsg.ACLResourceTypeAny, ResourcePatternType: kmsg.ACLResourcePatternTypeAny,
		Operation: kmsg.ACLOperationAny, PermissionType: kmsg.ACLPermissionTypeAny}}
	for _, q := range []kmsg.Request{create, remove} {
		for _, changes := range []bool{true, false} { // there is such an ACL already, or none any more
			p.told.Store(nil)
			_, err := p.a.client(t).Request(within30s(t), q)
			if err != nil {
				t.Fatal(err)
			}
			if told := p.told.Load(); (told != nil) != changes {
				t.Errorf("key %d, which changes something %v: answered after a wait for %v", q.Key(), changes, told)
			}
		}
	}
}
