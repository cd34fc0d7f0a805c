package join

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// ServerName is the name in every node's certificate. A node may have any address: the
// CA's signature proves the node, not its address.
const ServerName = "weir-cloud"

const (
	// DefaultValidity is how long a gateway certificate is valid.
	DefaultValidity = 365 * 24 * time.Hour
	// RenewalGrace is how long after its expiry a certificate can still be used to
	// renew itself. A gateway that was away for a year needs no help to come back.
	RenewalGrace = 400 * 24 * time.Hour

	caValidity     = 50 * 365 * 24 * time.Hour
	serverValidity = 10 * 365 * 24 * time.Hour
	backdate       = time.Hour // clocks differ
)

// CA is a cluster's certificate authority.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes a CA with a fresh ECDSA P-256 key.
func NewCA(now time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate CA key: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "weir CA"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caValidity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	cert, err := sign(t, t, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign CA: %w", err)
	}
	return &CA{cert: cert, key: key}, nil
}

// Certificate is the CA's own certificate.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Derive returns n secret bytes that depend only on the CA's key and a label. They are
// used for keys that all nodes of a cluster must agree on and that survive a restart.
func (ca *CA) Derive(label string, n int) ([]byte, error) {
	raw, err := ca.key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("derive %s: %w", label, err)
	}
	return hkdf.Key(sha256.New, raw, nil, "weir "+label, n)
}

// SignServer makes a key and a certificate for a node. It is valid from the CA's first
// day on, so a gateway whose clock is behind accepts it. The chain ends with the CA,
// which a joining gateway compares with its token.
func (ca *CA) SignServer(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("generate node key: %w", err)
	}
	cert, err := sign(serverTemplate(ca.cert.NotBefore, now.Add(serverValidity)), ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign node certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw, ca.cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// SignGateway checks csr and signs a client certificate for it, in DER. The certificate
// is valid for the given time (DefaultValidity if 0). The error is ErrRequest or
// ErrGatewayID if the request is not that of this gateway.
func (ca *CA) SignGateway(csr []byte, gateway string, now time.Time, validity time.Duration) ([]byte, error) {
	public, err := CheckCSR(csr, gateway)
	if err != nil {
		return nil, err
	}
	if validity == 0 {
		validity = DefaultValidity
	}
	cert, err := sign(&x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: gateway},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of gateway %s: %w", gateway, err)
	}
	return cert.Raw, nil
}

// Fingerprint is the SHA-256 of a certificate's public key (its SPKI, DER).
func Fingerprint(cert *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

func sign(t, parent *x509.Certificate, public crypto.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serial is random, so nodes can sign without asking each other.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	b[0] |= 0x40
	return new(big.Int).SetBytes(b[:])
}
