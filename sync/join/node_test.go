package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"testing"
	"time"
)

func newNode(t *testing.T, ca *CA, name string, now func() time.Time) *NodeIdentity {
	t.Helper()
	id, err := NewNodeIdentity(ca, name, now)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

// TestNodes: nodes of one cluster let each other in, under their names.
func TestNodes(t *testing.T) {
	ca := newCA(t)
	for _, name := range []string{"a", "node-48a44efd836e", "dc 1/rack ü?#%", "."} {
		a, b := newNode(t, ca, name, at(born)), newNode(t, ca, "b", at(born))
		if s, c := handshake(t, a.ServerTLS(), b.ClientTLS(name)); s != nil || c != nil {
			t.Errorf("%q: %v, %v", name, s, c)
		}
		if _, c := handshake(t, a.ServerTLS(), b.ClientTLS("another")); !errors.Is(c, ErrNode) {
			t.Errorf("%q passes for another node: %v", name, c)
		}
		cert, err := a.certificate()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := CheckNode(cert.Leaf, ca.Certificate(), born); got != name || err != nil {
			t.Errorf("%q is %q: %v", name, got, err)
		}
		if CheckGateway(cert.Leaf.Subject.CommonName) == nil {
			t.Errorf("the common name %q may be that of a gateway", cert.Leaf.Subject.CommonName)
		}
	}
	if _, err := NewNodeIdentity(ca, "", nil); err == nil {
		t.Error("a node without a name has a certificate")
	}
}

// TestPeerPortIsForNodes: whoever has another certificate, of this CA or not,
// is turned away.
func TestPeerPortIsForNodes(t *testing.T) {
	ca, foreign := newCA(t), newCA(t)
	later := born.Add(NodeValidity + day)
	port := newNode(t, ca, "a", at(later)).ServerTLS()
	gateway := newIdentity(t, ca, "gw", born, 0)
	syncServer, err := ca.SignServer(born)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		client *tls.Config
		want   error
	}{
		"a gateway":        {&tls.Config{GetClientCertificate: gateway.TLS(at(later)).GetClientCertificate}, ErrNode},
		"the sync server":  {&tls.Config{Certificates: []tls.Certificate{syncServer}}, ErrNode},
		"a foreign node":   {newNode(t, foreign, "a", at(later)).ClientTLS("a"), ErrForeign},
		"one that expired": {newNode(t, ca, "b", at(born)).ClientTLS("a"), ErrExpired},
		"one of tomorrow":  {newNode(t, ca, "b", at(later.Add(day))).ClientTLS("a"), ErrNotYet},
		"two names":        {&tls.Config{Certificates: []tls.Certificate{odd(t, ca, nodeURI("a"), nodeURI("b"))}}, ErrNode},
		"server use only":  {&tls.Config{Certificates: []tls.Certificate{odd(t, ca, nodeURI("b"))}}, ErrForeign},
		"another URI":      {&tls.Config{Certificates: []tls.Certificate{odd(t, ca, &url.URL{Scheme: "https", Host: "node", Path: "/b"})}}, ErrNode},
		"another protocol": {func() *tls.Config { c := newNode(t, ca, "b", at(later)).ClientTLS("a"); c.NextProtos = nil; return c }(), ErrNode},
		"no certificate":   {&tls.Config{}, nil},
		"an older TLS":     {&tls.Config{MaxVersion: tls.VersionTLS12}, nil},
		"a sync session":   {gateway.TLS(at(later)), nil},
		"the wrong protocol": {func() *tls.Config {
			c := newNode(t, ca, "b", at(later)).ClientTLS("a")
			c.NextProtos = []string{"h2"}
			return c
		}(), nil},
	} {
		if c.client.NextProtos == nil && name != "another protocol" {
			c.client.NextProtos = []string{ALPNPeer}
		}
		c.client.InsecureSkipVerify, c.client.VerifyConnection = true, nil
		if err, _ := handshake(t, port, c.client); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestNodesWithOtherClocks: clocks may be an hour apart, both ways; beyond that the refusal
// says that it is about time.
func TestNodesWithOtherClocks(t *testing.T) {
	ca := newCA(t)
	now := born.Add(100 * day)
	for _, c := range []struct {
		apart time.Duration
		want  error
	}{{time.Hour, nil}, {2 * time.Hour, ErrNotYet}} {
		early, late := newNode(t, ca, "early", at(now)), newNode(t, ca, "late", at(now.Add(c.apart)))
		if s, _ := handshake(t, early.ServerTLS(), late.ClientTLS("early")); !errors.Is(s, c.want) {
			t.Errorf("%v apart, asked by the fast one: %v, want %v", c.apart, s, c.want)
		}
		if _, client := handshake(t, late.ServerTLS(), early.ClientTLS("late")); !errors.Is(client, c.want) {
			t.Errorf("%v apart, the slow one asks: %v, want %v", c.apart, client, c.want)
		}
	}
}

// TestExpires: asking when the certificate ends renews it when that is due.
func TestExpires(t *testing.T) {
	now := born
	id := newNode(t, newCA(t), "a", func() time.Time { return now })
	for _, c := range []struct{ at, want time.Duration }{{0, NodeValidity}, {NodeValidity / 2, NodeValidity * 3 / 2}, {5 * NodeValidity, 6 * NodeValidity}} {
		now = born.Add(c.at)
		if got, err := id.Expires(); err != nil || got.Sub(born).Round(time.Minute) != c.want {
			t.Errorf("after %v it ends after %v, want %v; %v", c.at, got.Sub(born), c.want, err)
		}
	}
}

// odd signs a certificate that SignNode never would.
func odd(t *testing.T, ca *CA, uris ...*url.URL) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := sign(&x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "gw"}, URIs: uris,
		NotBefore: born, NotAfter: born.Add(100 * day),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// TestNodeIsNoGateway: a node's certificate opens neither the sync port nor
// passes for its server, whatever common name it has.
func TestNodeIsNoGateway(t *testing.T) {
	ca := newCA(t)
	gateway := newIdentity(t, ca, "gw", born, 0)
	server, err := ca.SignServer(born)
	if err != nil {
		t.Fatal(err)
	}
	port := ServerTLS(ca.Certificate(), server, at(born), nil)
	if s, c := handshake(t, port, gateway.TLS(at(born))); s != nil || c != nil {
		t.Fatalf("a gateway: %v, %v", s, c)
	}
	node, err := ca.SignNode("gw", born)
	if err != nil {
		t.Fatal(err)
	}
	client := gateway.TLS(at(born))
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &node, nil }
	if err, _ := handshake(t, port, client); !errors.Is(err, ErrForeign) || !errors.Is(err, ErrNode) {
		t.Errorf("the sync port lets a node in: %v", err)
	}
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := sign(&x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "gw"}, URIs: []*url.URL{nodeURI("gw")},
		NotBefore: born, NotAfter: born.Add(100 * day),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckClient(cert, ca.Certificate(), born); !errors.Is(err, ErrNode) {
		t.Errorf("a certificate with the name of a gateway and that of a node: %v", err)
	}
	pretender := ServerTLS(ca.Certificate(), node, at(born), nil)
	if _, err := handshake(t, pretender, gateway.TLS(at(born))); !errors.Is(err, ErrForeign) {
		t.Errorf("a gateway takes a node's certificate for that of the sync port: %v", err)
	}
}

// TestNodeIdentityRenews: at half of its life, and when the clock was set.
func TestNodeIdentityRenews(t *testing.T) {
	ca := newCA(t)
	now := born
	id := newNode(t, ca, "a", func() time.Time { return now })
	first, err := id.certificate()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at    time.Duration
		fresh bool
	}{{0, false}, {14 * day, false}, {15*day + time.Hour, true}, {29 * day, false}, {31 * day, true}, {0, true}, {1000 * day, true}} {
		now = born.Add(c.at)
		cert, err := id.certificate()
		if err != nil {
			t.Fatal(err)
		}
		if (cert != first) != c.fresh {
			t.Errorf("at %v: renewed %v, want %v", c.at, cert != first, c.fresh)
		}
		if _, err := CheckNode(cert.Leaf, ca.Certificate(), now); err != nil {
			t.Errorf("at %v: %v", c.at, err)
		}
		first = cert
	}
}

// TestSignGatewayCopiesNoNames: a request cannot ask for the name of a node.
func TestSignGatewayCopiesNoNames(t *testing.T) {
	ca := newCA(t)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "gw"}, URIs: []*url.URL{nodeURI("a")}, DNSNames: []string{ServerName},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignGateway(csr, "gw", born, 0)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.URIs)+len(cert.DNSNames) != 0 {
		t.Errorf("the certificate has the names %v %v", cert.URIs, cert.DNSNames)
	}
	if _, err := CheckNode(cert, ca.Certificate(), born); !errors.Is(err, ErrNode) {
		t.Errorf("it passes for that of a node: %v", err)
	}
}
