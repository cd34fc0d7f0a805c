package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// ALPNPeer is the protocol of the port over which nodes ask each other.
const ALPNPeer = "weir-peer/1"

// NodeValidity is how long a node's certificate for the peer port is valid.
// The node renews it when half of that has passed.
const NodeValidity = 30 * 24 * time.Hour

// peerName is the common name of a node's certificate for the peer port. It
// cannot be a gateway id: those have no space.
const peerName = "weir node"

// ErrNode: a certificate for the peer port was shown elsewhere, or another kind of
// certificate was shown at the peer port.
var ErrNode = errors.New("certificate is for another purpose")

// nodeURI is the name of a node in its certificate: weir://node/<name>.
func nodeURI(name string) *url.URL {
	return &url.URL{Scheme: "weir", Host: "node", Path: "/" + name}
}

// NodeName returns the name of the node that a certificate for the peer port belongs
// to. It returns false for other kinds of certificates.
func NodeName(cert *x509.Certificate) (string, bool) {
	if len(cert.URIs) != 1 || !isNode(cert) {
		return "", false
	}
	return strings.CutPrefix(cert.URIs[0].Path, "/")
}

// isNode reports whether a certificate names a node, whatever else it names.
func isNode(cert *x509.Certificate) bool {
	for _, u := range cert.URIs {
		if u.Scheme == "weir" {
			return true
		}
	}
	return false
}

// SignNode makes a key and a certificate with which the node of that name asks and
// answers on the peer port. It is of no use elsewhere: its name is neither the one that
// gateways expect of a server nor a possible gateway id. It is valid for NodeValidity.
func (ca *CA) SignNode(name string, now time.Time) (tls.Certificate, error) {
	if name == "" {
		return tls.Certificate{}, errors.New("sign node certificate: the node has no name")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("generate node key: %w", err)
	}
	cert, err := sign(ca.nodeTemplate(name, now), ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign node certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// CheckNode checks a certificate that was shown at the peer port against the CA at a
// time, and returns the name of the node. Errors: ErrForeign, ErrNode for a certificate
// that is not for this port, ErrExpired, ErrNotYet.
func CheckNode(cert, ca *x509.Certificate, now time.Time) (string, error) {
	name, ok := NodeName(cert)
	if !ok {
		return "", fmt.Errorf("%w: it names no node", ErrNode)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := chain(cert, ca, use); err != nil {
			return "", err
		}
	}
	switch {
	case now.After(cert.NotAfter):
		return "", fmt.Errorf("node %q, %v ago: %w", name, now.Sub(cert.NotAfter).Round(time.Second), ErrExpired)
	case now.Before(cert.NotBefore):
		return "", fmt.Errorf("node %q, for another %v: %w", name, cert.NotBefore.Sub(now).Round(time.Second), ErrNotYet)
	}
	return name, nil
}

// IssuedAt returns when the certificate of a node was signed, by the clock of who signed it.
// It is the moment that RevokeNode of package fleet compares.
func IssuedAt(cert *x509.Certificate) time.Time { return cert.NotBefore.Add(backdate) }

// NodeIdentity is what a node shows at the peer port. It renews itself.
type NodeIdentity struct {
	// Admit, if set before the identity is used, returns why a node is not admitted
	// although its certificate is valid. It is called at each handshake, of both kinds.
	Admit func(node string, cert *x509.Certificate) error

	root *x509.Certificate // of the CA
	ca   *CA               // nil: door has the certificates
	door *Door
	name string
	now  func() time.Time

	mu      sync.Mutex
	current *tls.Certificate // guarded by mu
}

// NewNodeIdentity signs a node's first certificate for the peer port. now is
// time.Now if nil.
func NewNodeIdentity(ca *CA, name string, now func() time.Time) (*NodeIdentity, error) {
	if now == nil {
		now = time.Now
	}
	id := &NodeIdentity{root: ca.cert, ca: ca, name: name, now: now}
	_, err := id.certificate()
	return id, err
}

// certificate returns a certificate that is valid for at least half of NodeValidity by
// this node's clock, even if the clock was changed. Without the CA's key it is what there is.
func (id *NodeIdentity) certificate() (*tls.Certificate, error) {
	if id.ca == nil {
		return id.door.certificate(), nil
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	now := id.now()
	if c := id.current; c != nil && !now.Before(c.Leaf.NotBefore) && now.Before(c.Leaf.NotAfter.Add(-NodeValidity/2)) {
		return c, nil
	}
	c, err := id.ca.SignNode(id.name, now)
	if err != nil {
		return nil, err
	}
	id.current = &c
	return id.current, nil
}

// Expires returns when the node's certificate ends. If it is due to be renewed, it is
// renewed first.
func (id *NodeIdentity) Expires() (time.Time, error) {
	c, err := id.certificate()
	if err != nil {
		return time.Time{}, err
	}
	return c.Leaf.NotAfter, nil
}

// ServerTLS is the configuration of the node's own peer port: it accepts only nodes
// with a certificate of the cluster's CA for this port.
//
// If it has the CA's key, it also accepts nodes without a certificate that ask for one, in
// another protocol: see Joins.
func (id *NodeIdentity) ServerTLS() *tls.Config {
	joining := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{alpnNodeJoin}, SessionTicketsDisabled: true, GetCertificate: id.joining}
	return &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if id.ca != nil && slices.Equal(h.SupportedProtos, joining.NextProtos) {
				return joining, nil
			}
			return nil, nil
		},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{ALPNPeer},
		SessionTicketsDisabled: true, // every connection is checked anew
		ClientAuth:             tls.RequireAnyClientCert,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.certificate() },
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := id.check(s)
			return err
		},
	}
}

// ClientTLS is the configuration with which this node dials another one. The other node
// must have that name.
func (id *NodeIdentity) ClientTLS(name string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{ALPNPeer},
		// The system's roots and host names are not used, only the one CA and the name
		// of the node. VerifyConnection does all of the verification.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			got, err := id.check(s)
			if err == nil && got != name {
				return fmt.Errorf("%w: node %q answered instead of %q", ErrNode, got, name)
			}
			return err
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.certificate() },
	}
}

// check returns the name of the node at the other end.
func (id *NodeIdentity) check(s tls.ConnectionState) (string, error) {
	if len(s.PeerCertificates) == 0 {
		return "", ErrForeign
	}
	if s.NegotiatedProtocol != ALPNPeer {
		return "", fmt.Errorf("%w: it does not speak %s", ErrNode, ALPNPeer)
	}
	cert := s.PeerCertificates[0]
	name, err := CheckNode(cert, id.root, id.now())
	if err == nil && id.Admit != nil {
		err = id.Admit(name, cert)
	}
	return name, err
}
