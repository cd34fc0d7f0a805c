package access

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/cloud/quota"
)

// knowing returns users of whom ann may read topic t.
func knowing(t *testing.T) *auth.Auth {
	t.Helper()
	a := auth.New(auth.Options{})
	a.Serve(machinetest.New(a))
	if err := a.AddACLs(t.Context(), auth.ACL{Resource: auth.Resource{Type: auth.Topic, Pattern: auth.Literal, Name: "t"},
		Rule: auth.Rule{Principal: "User:ann", Host: auth.Any, Operation: auth.Read, Permission: auth.Allow}}); err != nil {
		t.Fatal(err)
	}
	return a
}

var (
	ann = auth.Who{Principal: "User:ann", Host: "192.0.2.1"}
	bob = auth.Who{Principal: "User:bob", Host: "192.0.2.1"}
)

// TestAccess: a request is judged by the log's ACLs, else by the copy's, else it may do
// nothing; without authorization it may do everything.
func TestAccess(t *testing.T) {
	users, quotas := knowing(t), quota.New(quota.Options{})
	copied := &broker.Copy{Asked: time.Now(), Users: users, Quotas: quotas}
	for name, c := range map[string]struct {
		own, copy, authorize bool
		judged, ann, bob     bool
	}{
		"owner":                 {true, false, true, true, true, false},
		"standby":               {false, true, true, true, true, false},
		"neither":               {false, false, true, false, false, false},
		"nobody needs an ACL":   {true, true, false, true, true, true},
		"and nobody knows them": {false, false, false, true, true, true},
	} {
		b := broker.New(broker.Options{})
		if c.copy {
			b.SetCopy(copied)
		}
		o := Options{Broker: b, Authorize: c.authorize}
		if c.own {
			o.Users, o.Quotas = func() *auth.Auth { return users }, func() *quota.Quotas { return quotas }
		}
		a := New(o)
		var r Rights
		if a.Judge(&r, func(error) {}) != c.judged || r.Unknown() == c.judged || r.Copied() != (c.copy && c.authorize && !c.own) {
			t.Errorf("%s: judged %v, copied %v", name, !r.Unknown(), r.Copied())
		}
		if r.May(ann, auth.Read, auth.Topic, "t") != c.ann || r.May(bob, auth.Read, auth.Topic, "t") != c.bob ||
			r.MaySome(ann, auth.Read, auth.Topic) != c.ann || r.MaySome(bob, auth.Read, auth.Topic) != c.bob {
			t.Errorf("%s: other rights", name)
		}
		later := r.Later(ann, auth.Read, auth.Topic)
		r.Settle()
		if later("t") != c.ann {
			t.Errorf("%s: other rights later", name)
		}
		if (a.Users() != nil) != (c.own || c.copy) || (a.Quotas() != nil) != (c.own || c.copy) || (a.OwnUsers() != nil) != c.own || (a.OwnQuotas() != nil) != c.own {
			t.Errorf("%s: other users or quotas", name)
		}
		a.Settle() // waits for no request
	}
}

// TestSettle: a node that becomes the owner waits for what is judged by the copy, but
// not for long.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(broker.Options{})
		b.SetCopy(&broker.Copy{Asked: time.Now(), Users: knowing(t), Quotas: quota.New(quota.Options{})})
		a := New(Options{Broker: b, Authorize: true})
		var quick, slow Rights
		ended := make(chan error, 1)
		if !a.Judge(&quick, func(error) { t.Error("a request that settles in time was ended") }) || !a.Judge(&slow, func(err error) { ended <- err }) {
			t.Fatal("not judged by the copy")
		}
		began := time.Now()
		go func() {
			time.Sleep(settleTime / 2)
			quick.Settle()
			if err := <-ended; !errors.Is(err, errSettled) {
				t.Error(err)
			}
			slow.Settle()
			slow.Settle()
		}()
		a.Settle()
		if took := time.Since(began); took != settleTime {
			t.Errorf("settled after %v", took)
		}
	})
}
