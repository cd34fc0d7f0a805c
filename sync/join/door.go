package join

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"
)

// alpnNodeJoin is the protocol in which a node without the CA's key asks for its first
// certificate, at the peer port of one that has it.
const alpnNodeJoin = "weir-node-join/1"

// Admission is what a node without the CA's key gets from one that has it.
type Admission struct {
	Certificate []byte `json:"certificate"` // for the peer port, DER
	Server      []byte `json:"server"`      // for the sync port, for the same key, DER
	CA          []byte `json:"ca"`          // DER
	Salts       []byte `json:"salts"`       // the key of the salts that users get who do not exist
}

// NewNodeCSR returns a request (PKCS #10, DER) for certificates for the node of a name.
func NewNodeCSR(key *ecdsa.PrivateKey, name string) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return csr, nil
}

// checkNodeCSR returns the key of a request for a node. Nothing else in it is used.
func checkNodeCSR(csr []byte, name string) (crypto.PublicKey, error) {
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", ErrRequest)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("signature: %w", ErrRequest)
	}
	if name == "" || r.Subject.CommonName != name {
		return nil, fmt.Errorf("it names %q, not %q: %w", r.Subject.CommonName, name, ErrRequest)
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("key is not ECDSA P-256: %w", ErrRequest)
	}
	return key, nil
}

// AdmitNode checks csr and signs both certificates for it, which are valid for NodeValidity.
// That for the sync port is not valid for longer either: when a node is revoked, gateways do
// not hear of it. The error is ErrRequest if the request is not that of this node.
func (ca *CA) AdmitNode(csr []byte, name string, now time.Time) (Admission, error) {
	key, err := checkNodeCSR(csr, name)
	if err != nil {
		return Admission{}, err
	}
	node, err := sign(ca.nodeTemplate(name, now), ca.cert, key, ca.key)
	if err != nil {
		return Admission{}, fmt.Errorf("sign node certificate: %w", err)
	}
	server := serverTemplate(ca.cert.NotBefore, now.Add(NodeValidity))
	signed, err := sign(server, ca.cert, key, ca.key)
	if err != nil {
		return Admission{}, fmt.Errorf("sign node certificate: %w", err)
	}
	return Admission{Certificate: node.Raw, Server: signed.Raw, CA: ca.cert.Raw}, nil
}

// Door is what a node has instead of the CA's key: a key of its own with certificates, and
// the CA's certificate. All is in one file (PEM, mode 0600). Door is safe for concurrent use.
type Door struct {
	path  string
	name  string
	token []byte // hash of the secret with which it has joined
	key   *ecdsa.PrivateKey
	ca    *x509.Certificate
	salts []byte

	mu           sync.Mutex
	node, server *x509.Certificate // guarded by mu; replaced by Renew
}

const (
	// pemSalts is the block of Admission.Salts, pemToken that of the hash of the token.
	pemSalts = "WEIR SALTS"
	pemToken = "WEIR TOKEN"
)

// NewDoor makes a Door from what a join with a token returned, and stores it at path, durably.
func NewDoor(path, name string, t Token, key *ecdsa.PrivateKey, a Admission) (*Door, error) {
	ca, err := x509.ParseCertificate(a.CA)
	if err != nil {
		return nil, fmt.Errorf("parse CA certificate: %w", ErrCorrupt)
	}
	hash := HashSecret(t.Secret)
	d := &Door{path: path, name: name, token: hash[:], key: key, ca: ca, salts: a.Salts}
	return d, d.Renew(a)
}

// LoadDoor reads what is stored at path for the node of a name. The error is
// fs.ErrNotExist if there is no file, ErrCorrupt if it holds something else, ErrNode if
// it is another node's.
func LoadDoor(path, name string) (*Door, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the node's identity: %w", err)
	}
	d := &Door{path: path, name: name}
	var certs [][]byte
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case pemCert:
			certs = append(certs, block.Bytes)
		case pemSalts:
			d.salts = block.Bytes
		case pemToken:
			d.token = block.Bytes
		case pemKey:
			if d.key, err = parseKey(path, block.Bytes); err != nil {
				return nil, err
			}
		}
	}
	if d.key == nil || len(certs) != 3 || len(d.salts) == 0 || len(d.token) != sha256.Size {
		return nil, fmt.Errorf("read %s: key, three certificates, salts and the hash of a token expected: %w", path, ErrCorrupt)
	}
	if d.ca, err = x509.ParseCertificate(certs[2]); err != nil {
		return nil, fmt.Errorf("read %s: parse CA certificate: %w", path, ErrCorrupt)
	}
	if d.node, d.server, err = d.check(Admission{Certificate: certs[0], Server: certs[1]}); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return d, nil
}

// check parses both certificates, and checks that they are of our CA and for our key.
func (d *Door) check(a Admission) (node, server *x509.Certificate, err error) {
	node, err = x509.ParseCertificate(a.Certificate)
	if err == nil {
		server, err = x509.ParseCertificate(a.Server)
	}
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("parse certificate: %w", ErrCorrupt)
	case !d.key.PublicKey.Equal(node.PublicKey) || !d.key.PublicKey.Equal(server.PublicKey):
		return nil, nil, fmt.Errorf("certificate is for another key: %w", ErrCorrupt)
	}
	name, err := CheckNode(node, d.ca, node.NotBefore)
	if err == nil && name != d.name {
		err = fmt.Errorf("%w: it is that of node %q, and this one is %q", ErrNode, name, d.name)
	}
	if err == nil {
		err = checkServer(server, d.ca, server.NotBefore)
	}
	return node, server, err
}

// Renew replaces the certificates and stores them, durably. After an error the old ones stay
// in use, except after ErrNotStored: then the new ones are used until the process ends.
func (d *Door) Renew(a Admission) error {
	node, server, err := d.check(a)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.node, d.server = node, server
	b, err := encodeKey(d.key)
	if err != nil {
		return err
	}
	for _, cert := range []*x509.Certificate{node, server, d.ca} {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: cert.Raw})...)
	}
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemSalts, Bytes: d.salts})...)
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemToken, Bytes: d.token})...)
	if err := storeFile(d.path, b); err != nil {
		return fmt.Errorf("store the node's identity: %w: %w", ErrNotStored, err)
	}
	return nil
}

// CA is the certificate of the CA, Salts the key of the salts that users get who do not exist.
func (d *Door) CA() *x509.Certificate { return d.ca }
func (d *Door) Salts() []byte         { return bytes.Clone(d.salts) }

// JoinedWith reports whether it has joined with this token.
func (d *Door) JoinedWith(t Token) bool {
	hash := HashSecret(t.Secret)
	return bytes.Equal(d.token, hash[:])
}

// CSR returns a request for new certificates for the same key.
func (d *Door) CSR() ([]byte, error) { return NewNodeCSR(d.key, d.name) }

// Due returns when the certificates are to be renewed, Expires when they end.
func (d *Door) Due() time.Time     { return d.Expires().Add(-NodeValidity / 2) }
func (d *Door) Expires() time.Time { return d.certificate().Leaf.NotAfter }

// Derive returns n secret bytes that depend only on the node's own key and a label.
func (d *Door) Derive(label string, n int) ([]byte, error) {
	raw, err := d.key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("derive %s: %w", label, err)
	}
	return hkdf.Key(sha256.New, raw, nil, "weir "+label, n)
}

func (d *Door) certificate() *tls.Certificate {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &tls.Certificate{Certificate: [][]byte{d.node.Raw}, PrivateKey: d.key, Leaf: d.node}
}

// serverCertificate is that for the sync port, with the CA for gateways that join.
func (d *Door) serverCertificate() *tls.Certificate {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &tls.Certificate{Certificate: [][]byte{d.server.Raw, d.ca.Raw}, PrivateKey: d.key, Leaf: d.server}
}

// ServerTLS is ServerTLS for the sync port of this node.
func (d *Door) ServerTLS(now func() time.Time) *tls.Config {
	return serverTLS(d.ca, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return d.serverCertificate(), nil }, now, nil)
}

// NewDoorIdentity is NewNodeIdentity for a node without the CA's key. Renew of door renews it.
func NewDoorIdentity(door *Door, now func() time.Time) *NodeIdentity {
	if now == nil {
		now = time.Now
	}
	return &NodeIdentity{root: door.ca, door: door, name: door.name, now: now}
}

// NodeJoinTLS is the configuration of a node without the CA's key that asks for its first
// certificate: it trusts the CA whose fingerprint the token carries. Any other CA is
// ErrForeign, before the secret is sent.
func NodeJoinTLS(t Token, now func() time.Time) *tls.Config {
	if now == nil {
		now = time.Now
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpnNodeJoin},
		InsecureSkipVerify: true, // VerifyConnection does all of the verification
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, ca := range s.PeerCertificates[1:] {
				if Fingerprint(ca) == t.Fingerprint {
					_, err := CheckNode(s.PeerCertificates[0], ca, after(now(), s.PeerCertificates[0]))
					return err
				}
			}
			return fmt.Errorf("the cluster in this bucket is not the one that the token is for: %w", ErrForeign)
		},
	}
}

// Joins reports whether the other end of a connection to a peer port, which has no
// certificate, wants one.
func Joins(s tls.ConnectionState) bool { return s.NegotiatedProtocol == alpnNodeJoin }

// joining is the configuration for nodes that ask for their first certificate.
func (id *NodeIdentity) joining(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, err := id.certificate()
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{c.Certificate[0], id.root.Raw}, PrivateKey: c.PrivateKey, Leaf: c.Leaf}, nil
}

// nodeTemplate is the certificate of a node for the peer port.
func (ca *CA) nodeTemplate(name string, now time.Time) *x509.Certificate {
	since := now.Add(-backdate)
	if since.Before(ca.cert.NotBefore) { // no certificate is older than its CA
		since = ca.cert.NotBefore
	}
	return &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: peerName},
		URIs:         []*url.URL{nodeURI(name)},
		NotBefore:    since,
		NotAfter:     now.Add(NodeValidity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// serverTemplate is the certificate of a node for the sync port.
func serverTemplate(since, until time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: ServerName},
		DNSNames:     []string{ServerName},
		NotBefore:    since,
		NotAfter:     until,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}
