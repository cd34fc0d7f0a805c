package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/sender"
)

// nodeTokenOf asks n for a token for a node.
func nodeTokenOf(t *testing.T, n running, name string) string {
	t.Helper()
	status, answer, _ := changeNode(t, n, "/v1/nodes/token", console.NodeChange{Name: name})
	var token console.Token
	if err := json.Unmarshal([]byte(answer), &token); err != nil || status != http.StatusOK {
		t.Fatalf("token for %s: %d %s", name, status, answer)
	}
	return token.Token
}

// doorBucket is a bucket with the credentials of a door without the secret: those that README
// says are enough.
type doorBucket struct {
	storage.Bucket
	denied *atomic.Pointer[string] // what was asked for beyond them
}

var errDenied = errors.New("access denied")

func (b doorBucket) may(keys ...string) error {
	for _, key := range keys {
		if !strings.HasPrefix(key, "member/") && !strings.HasPrefix(key, "probe/") {
			b.denied.Store(&key)
			return fmt.Errorf("write %s: %w", key, errDenied)
		}
	}
	return nil
}

func (b doorBucket) Create(ctx context.Context, key string, body []byte) error {
	if err := b.may(key); err != nil {
		return err
	}
	return b.Bucket.Create(ctx, key, body)
}

func (b doorBucket) Delete(ctx context.Context, keys ...string) error {
	if err := b.may(keys...); err != nil {
		return err
	}
	return b.Bucket.Delete(ctx, keys...)
}

func (b doorBucket) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if key == fleet.AuthorityKey {
		b.denied.Store(&key)
		return nil, fmt.Errorf("read %s: %w", key, errDenied)
	}
	return b.Bucket.Get(ctx, key, off, n)
}

// TestDoorWithoutKeys: a door that has neither the secret nor the CA's key joins with a token
// for it, takes gateways and clients, has its certificates renewed, starts again without the
// token, and is revoked.
func TestDoorWithoutKeys(t *testing.T) {
	var denied atomic.Pointer[string]
	secret := []byte("a secret of the bucket")
	first := openNode(t, bucketOf(t, 3), "first", t.TempDir(), func(o *Options) { o.Secret, o.AutoCreate, o.Takeover = secret, true, 2*time.Second })
	first.run(t)
	eventually(t, "the first node has all shards", func() bool { return first.owns(0, 1, 2) })
	door := func(data, token string) func(o *Options) {
		return func(o *Options) {
			o.Bucket, o.Data, o.Node = doorBucket{first.o.Bucket, &denied}, data, "door"
			o.Roles, o.NoKeys, o.JoinToken, o.Takeover = cluster.RoleDoor, true, token, 2*time.Second
		}
	}
	data, token := t.TempDir(), nodeTokenOf(t, first, "door")
	gateways, err := os.ReadFile(filepath.Join(first.o.Data, "join-token"))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		token string
		want  error
	}{
		"no token": {"", ErrNoToken}, "half a token": {token[:20], join.ErrTokenMalformed},
		"one of another node": {nodeTokenOf(t, first, "another"), join.ErrTokenBound}, "one for gateways": {string(gateways), join.ErrTokenBound},
	} {
		o := first.o
		door(t.TempDir(), c.token)(&o)
		if err := openError(t, o); !errors.Is(err, c.want) || c.token != "" && !errors.Is(err, ErrNotJoined) {
			t.Errorf("%s: %v", what, err)
		}
	}

	n := openNode(t, first.o.Bucket, "door", data, door(data, token))
	n.run(t)
	n.says(t, "ready")
	if n.ca != nil || !bytes.Equal(n.decoy, first.decoy) || !n.root().Equal(first.root()) {
		t.Error("the door has the CA's key, other salts or another CA")
	}
	if info, err := os.Stat(filepath.Join(data, identityFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its identity: %v %v", info, err)
	}
	eventually(t, "the door knows the catalogue, and the first node the door", func() bool {
		return n.broker.Copy() != nil && len(first.manager.Members()) == 1
	})
	if _, code, err := (owner{n.Node}).CreateTopic(t.Context(), auth.Who{Principal: "User:ANONYMOUS"}, "t"); err != nil || code != 0 {
		t.Errorf("the door has a topic created: code %d, %v", code, err)
	}
	admits, err := join.ParseToken(string(gateways))
	if err != nil {
		t.Fatal(err)
	}
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	identity, err := sender.Join(t.Context(), n.self.Address(cluster.Sync), admits, "gw", key, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	_, disconnect := connect(t, n, identity)
	eventually(t, "a gateway is connected to the door", func() bool { return len(n.sessions()) == 1 })
	disconnect()
	before := n.door.Expires()
	if err := n.renewDoorNow(t.Context()); err != nil || n.door.Expires().Before(before) {
		t.Errorf("renewed: %v, from %v to %v", err, before, n.door.Expires())
	}
	n.stop()
	<-n.ended
	again := openNode(t, first.o.Bucket, "door", data, door(data, ""))
	again.run(t)
	eventually(t, "the door that was started again is a member", func() bool {
		all := first.manager.Members()
		return len(all) == 1 && all[0].Boot == again.self.Boot
	})
	o := first.o
	door(data, token)(&o)
	if keys, err := (&Node{o: o}).openDoorKeys(t.Context()); err != nil || !bytes.Equal(keys.Salts(), first.decoy) {
		t.Errorf("a door that still has the token with which it has joined does not start: %v", err)
	}
	if door(t.TempDir(), token)(&o); !errors.Is(openError(t, o), join.ErrTokenSpent) {
		t.Errorf("a token that was used is good once more")
	}

	status, answer, _ := changeNode(t, first, "/v1/nodes/revoke", console.NodeChange{Name: "door"})
	if status != http.StatusOK || !strings.Contains(answer, `"had_secret":false`) {
		t.Errorf("revoke: %d %s", status, answer)
	}
	if <-again.ended; !errors.Is(*again.err, ErrNodeRevoked) {
		t.Errorf("the revoked door ended with %v", *again.err)
	}
	if door(t.TempDir(), nodeTokenOf(t, first, "door"))(&o); !errors.Is(openError(t, o), join.ErrRevoked) {
		t.Errorf("a revoked door joins with a new token")
	}
	if status, answer, _ := changeNode(t, first, "/v1/nodes/reset", console.NodeChange{Name: "door"}); status != http.StatusOK {
		t.Errorf("reset: %d %s", status, answer)
	}
	back := openNode(t, first.o.Bucket, "door", data, door(data, nodeTokenOf(t, first, "door")))
	back.run(t)
	eventually(t, "the door that has joined with a new token is a member", func() bool {
		all := first.manager.Members()
		return len(all) == 1 && all[0].Boot == back.self.Boot
	})
	for _, name := range []string{"first", "door"} {
		token, err := join.ParseToken(nodeTokenOf(t, first, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := first.joinNodeHere(t.Context(), peer.NodeQuestion{Secret: token.Secret, Name: name}); !errors.Is(err, join.ErrUnavailable) || !strings.Contains(err.Error(), "is there: stop it") {
			t.Errorf("a second node with the name %s joins: %v", name, err)
		}
	}
	if key := denied.Load(); key != nil {
		t.Errorf("the door wants to read or write %s", *key)
	}
}

// openError opens a node and returns why that fails.
func openError(t *testing.T, o Options) error {
	t.Helper()
	n, err := Open(t.Context(), o)
	if err == nil {
		err = n.Close()
	}
	return err
}
