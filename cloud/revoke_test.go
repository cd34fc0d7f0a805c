package cloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/sync/join"
)

// changeNode posts a change of a node to the admin port of n.
func changeNode(t *testing.T, n running, path string, c console.NodeChange) (status int, answer, late string) {
	t.Helper()
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+n.self.Address(cluster.HTTP)+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tokenOf(t, n))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text), res.Header.Get(console.LateHeader)
}

// revoke revokes a node by asking n.
func revoke(t *testing.T, n running, name string) {
	t.Helper()
	if status, answer, late := changeNode(t, n, "/v1/nodes/revoke", console.NodeChange{Name: name}); status != http.StatusOK || late != "" {
		t.Fatalf("revoke %s: %d %s, late: %q", name, status, answer, late)
	}
}

// TestRevokeNode: a revoked node ends, also when it is started again, and others have what it
// owned. Nobody talks to it, until it is let in again.
func TestRevokeNode(t *testing.T) {
	owner := openNode(t, bucketOf(t, 3), "first", t.TempDir(), func(o *Options) { o.Roles, o.Takeover = cluster.RoleMeta|cluster.RoleDoor, 2*time.Second })
	owner.run(t)
	goes := startWith(t, owner, "second", cluster.RoleLog)
	eventually(t, "they have their shards", func() bool { return owner.owns(0) && goes.owns(1, 2) })
	stays := startWith(t, owner, "third", cluster.RoleLog)
	eventually(t, "all know each other", func() bool {
		return len(owner.manager.Members()) == 2 && len(stays.manager.Members()) == 2 && stays.broker.Copy() != nil
	})
	for _, c := range []struct {
		change console.NodeChange
		says   string
	}{
		{console.NodeChange{Name: owner.o.Node}, "owns the catalogue"},
		{console.NodeChange{Name: stays.o.Node}, "has passed this on"},
		{console.NodeChange{Name: "fourth"}, "first, second, third"},
		{console.NodeChange{}, "name must be that of a node"},
	} {
		if status, answer, _ := changeNode(t, stays, "/v1/nodes/revoke", c.change); status < 400 || status >= 500 || !strings.Contains(answer, c.says) {
			t.Errorf("revoke %q: %d %s", c.change.Name, status, answer)
		}
	}
	if status, answer, _ := changeNode(t, stays, "/v1/nodes/reset", console.NodeChange{Name: goes.o.Node}); status != http.StatusConflict || !strings.Contains(answer, "no such node is revoked") {
		t.Errorf("reset of a node that is not revoked: %d %s", status, answer)
	}
	if status, answer, _ := changeNode(t, owner, "/v1/nodes/revoke", console.NodeChange{Name: "stolen long ago", Unknown: true}); status != http.StatusOK {
		t.Errorf("revoke a name that is not known: %d %s", status, answer)
	}

	ghost, err := join.NewNodeIdentity(owner.ca, "ghost", nil)
	if err != nil {
		t.Fatal(err)
	}
	thief := peer.NewClient(ghost)
	defer thief.Close()
	for _, n := range []running{owner, stays} { // it has connections, which stay open for a while
		eventually(t, "a node of that name is answered", func() bool {
			_, err := thief.Sessions(t.Context(), n.o.Node, n.self.Address(cluster.Peer))
			return err == nil
		})
	}
	for _, path := range []string{"/v1/nodes/revoke", "/v1/nodes/reset"} {
		if status, answer, _ := changeNode(t, owner, path, console.NodeChange{Name: "ghost", Unknown: true}); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
	for _, n := range []running{owner, stays} {
		eventually(t, n.o.Node+" refuses the certificate from before", func() bool {
			_, err := thief.Sessions(t.Context(), n.o.Node, n.self.Address(cluster.Peer))
			return err != nil
		})
	}

	revoke(t, stays, goes.o.Node)
	if <-goes.ended; !errors.Is(*goes.err, ErrNodeRevoked) {
		t.Errorf("the revoked node ended with %v", *goes.err)
	}
	eventually(t, "another node has its shards", func() bool { return stays.owns(1, 2) })
	again, err := join.NewNodeIdentity(owner.ca, goes.o.Node, nil)
	if err != nil {
		t.Fatal(err)
	}
	impostor := peer.NewClient(again)
	defer impostor.Close()
	for _, n := range []running{owner, stays} {
		if answer, err := impostor.Ping(t.Context(), n.o.Node, n.self.Address(cluster.Peer)); err == nil {
			t.Errorf("%s answers a revoked node: %+v", n.o.Node, answer)
		}
		eventually(t, n.o.Node+" lists the revoked nodes", func() bool {
			states := make(map[string]string)
			for _, one := range answerOf[console.Nodes](t, n, "/v1/nodes").Nodes {
				states[one.Name] = one.State
			}
			return len(states) == 4 && states[goes.o.Node] == console.NodeRevoked && states["stolen long ago"] == console.NodeRevoked && states[stays.o.Node] == console.NodeUp
		})
	}

	open := func() running {
		return startWith(t, owner, goes.o.Node, cluster.RoleLog)
	}
	n := open()
	if <-n.ended; !errors.Is(*n.err, ErrNodeRevoked) {
		t.Errorf("the revoked node, started again, ended with %v", *n.err)
	}
	if status, answer, late := changeNode(t, stays, "/v1/nodes/reset", console.NodeChange{Name: goes.o.Node}); status != http.StatusOK || late != "" {
		t.Fatalf("reset: %d %s, late: %q", status, answer, late)
	}
	back := open()
	eventually(t, "the node that is let in again is one of them", func() bool {
		return len(owner.manager.Members()) == 2 && len(stays.manager.Members()) == 2 && len(back.manager.Members()) == 2
	})
}

// TestMayRevoke: the node that answers is not revoked, nor the last one that can have data
// while it is there, nor a name that nobody has.
func TestMayRevoke(t *testing.T) {
	node := func(name string, alive bool, roles cluster.Roles) cluster.Known {
		return cluster.Known{Alive: alive, Node: cluster.Node{Name: name, Roles: roles}}
	}
	meta := cluster.Node{Name: "meta", Roles: cluster.RoleMeta}
	for name, c := range map[string]struct {
		name   string
		self   cluster.Node
		others []cluster.Known
		known  bool
		says   string // "": it may be revoked
	}{
		"self":                       {name: "meta", self: meta, says: "owns the catalogue"},
		"a door":                     {name: "door", self: meta, others: []cluster.Known{node("door", true, cluster.RoleDoor), node("log", true, cluster.RoleLog)}},
		"the last log node":          {name: "log", self: meta, others: []cluster.Known{node("door", true, cluster.RoleDoor), node("log", true, cluster.RoleLog)}, says: "log is the last node with the role log"},
		"the other one is gone":      {name: "log", self: meta, others: []cluster.Known{node("log", true, cluster.RoleLog), node("more", false, cluster.RoleLog)}, says: "log is the last node with the role log"},
		"the last one, which is off": {name: "log", self: meta, others: []cluster.Known{node("log", false, cluster.RoleLog)}},
		"there is another":           {name: "log", self: meta, others: []cluster.Known{node("log", true, cluster.RoleLog), node("more", true, 0)}},
		"who answers has the role":   {name: "log", self: cluster.Node{Name: "meta"}, others: []cluster.Known{node("log", true, 0)}},
		"nobody":                     {name: "b", self: meta, others: []cluster.Known{node("log", true, cluster.RoleLog)}, says: "is called \"b\": these are log, meta"},
		"nobody, and known":          {name: "b", self: meta, known: true},
	} {
		err := mayRevoke(c.name, c.self, c.others, c.known)
		if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, console.ErrNode) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRevokeStandby: so it is in a cluster of one shard. A revoked standby that does not know
// it does not lead when the owner is gone.
func TestRevokeStandby(t *testing.T) {
	bucket := mem.New()
	patient := func(name string) running { // so that a busy machine makes no takeover
		n := openNode(t, bucket, name, t.TempDir(), func(o *Options) { o.Takeover = 2 * time.Second })
		n.run(t)
		return n
	}
	first := patient("first")
	first.says(t, "ready")
	second := patient("second")
	second.says(t, "ready")
	eventually(t, "they know each other", func() bool { return len(first.manager.Members()) == 1 })
	revoke(t, first, "second")
	if <-second.ended; !errors.Is(*second.err, ErrNodeRevoked) {
		t.Errorf("the revoked node ended with %v", *second.err)
	}
	n := patient("second")
	eventually(t, "it has found the owner", func() bool { owner, known := n.broker.Controller(); return known && owner.Name == "first" })
	first.stop()
	<-first.ended
	if <-n.ended; !errors.Is(*n.err, ErrNodeRevoked) {
		t.Errorf("a revoked standby, whose owner is gone, ended with %v", *n.err)
	}
	third := patient("third")
	third.says(t, "leading")
}

// TestKnowsRevoked: a node of several shards that does not know whom the cluster has revoked,
// or has not heard for a minute, says so.
func TestKnowsRevoked(t *testing.T) {
	members := fleet.New(fleet.Options{})
	n := openNode(t, bucketOf(t, 3), "first", t.TempDir())
	defer n.Close()
	if n.knowsRevoked() == nil {
		t.Error("a node that has just started knows who is revoked")
	}
	n.judgeNodesBy(members, time.Now())
	if err := n.knowsRevoked(); err != nil {
		t.Error(err)
	}
	n.judgeNodesBy(members, time.Now().Add(-severalAge-time.Second))
	if n.knowsRevoked() == nil {
		t.Error("a node that has heard nothing for a minute knows who is revoked")
	}
	one := openNode(t, mem.New(), "second", t.TempDir())
	defer one.Close()
	if err := one.knowsRevoked(); err != nil {
		t.Error(err)
	}
}
