package peer

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/sync/join"
)

// TestJoinNode: a node without a certificate gets one for a token of the cluster, and can do
// nothing else with such a connection.
func TestJoinNode(t *testing.T) {
	ca := newCA(t)
	token := join.NewToken(ca)
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := join.NewNodeCSR(key, "door")
	if err != nil {
		t.Fatal(err)
	}
	nodes := NodeMembership{Join: func(_ context.Context, q NodeQuestion) (join.Admission, error) {
		if q.Secret != token.Secret {
			return join.Admission{}, join.ErrTokenUnknown
		}
		return ca.AdmitNode(q.CSR, q.Name, time.Now())
	}}
	p := startWith(t, ca, "a", budget.GateOptions{Max: 16, Strangers: 4, PerAddress: 16}, func(o *Options) { o.Nodes = nodes })
	q := NodeQuestion{Secret: token.Secret, Name: "door", CSR: csr}
	a, err := JoinNode(t.Context(), p.addr, token, q)
	if err != nil {
		t.Fatal(err)
	}
	a.Salts = []byte("salts")
	door, err := join.NewDoor(t.TempDir()+"/identity", "door", token, key, a)
	if err != nil {
		t.Fatal(err)
	}
	id := join.NewDoorIdentity(door, nil)
	if _, err := client(t, id).Ping(t.Context(), "a", p.addr); err != nil {
		t.Errorf("the node that was let in: %v", err)
	}

	wrong := q
	wrong.Secret[0]++
	if _, err := JoinNode(t.Context(), p.addr, token, wrong); !errors.Is(err, join.ErrTokenUnknown) {
		t.Errorf("another secret: %v", err)
	}
	if _, err := JoinNode(t.Context(), p.addr, join.NewToken(newCA(t)), q); !errors.Is(err, join.ErrForeign) {
		t.Errorf("the token of another cluster: %v", err)
	}
	other := startWith(t, ca, "door", budget.GateOptions{}, func(o *Options) { o.Identity, o.Nodes = id, nodes })
	if _, err := JoinNode(t.Context(), other.addr, token, q); err == nil {
		t.Error("a node without the CA's key lets another in")
	}
	if _, err := client(t, identity(t, ca, "b")).Ping(t.Context(), "door", other.addr); err != nil {
		t.Errorf("a node without the CA's key is asked: %v", err)
	}

	// What is no question, or is too long, is not answered, and takes no seat for long.
	for what, body := range map[string][]byte{"HTTP": []byte("GET " + pingPath + " HTTP/1.1\r\n\r\n"), "too long": binary.BigEndian.AppendUint32(nil, maxAdmission+1), "no JSON": {0, 0, 0, 1, 'x'}} {
		conn, err := tls.Dial("tcp", p.addr, join.NodeJoinTLS(token, nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(body); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s is answered: %d bytes", what, n)
		}
		conn.Close()
	}
	l := newLink(p.addr, join.NodeJoinTLS(token, nil))
	defer l.close()
	if _, err := l.ask(t.Context(), http.MethodGet, pingPath, nil, maxAnswer); err == nil {
		t.Error("a node without a certificate gets an answer to another question")
	}

	// Silent ones, in all seats of strangers, keep nobody out.
	open := 0
	for range 8 {
		conn, err := tls.Dial("tcp", p.addr, join.NodeJoinTLS(token, nil))
		if err == nil { // else there is no seat for it
			defer conn.Close()
			open++
		}
	}
	if open == 0 {
		t.Error("no stranger has a seat")
	}
	if _, err := client(t, identity(t, ca, "b")).Ping(t.Context(), "a", p.addr); err != nil {
		t.Errorf("a node, beside silent strangers: %v", err)
	}
}
