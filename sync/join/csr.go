package join

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
)

// NewKey makes a gateway's key.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate gateway key: %w", err)
	}
	return key, nil
}

// NewCSR returns a request (PKCS #10, DER) for a certificate for gateway. Its signature
// proves that the key is ours.
func NewCSR(key *ecdsa.PrivateKey, gateway string) ([]byte, error) {
	if err := CheckGateway(gateway); err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: gateway}}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return csr, nil
}

// CheckCSR checks that csr is signed by its own key, that the key is ECDSA P-256 and
// that its name is gateway. Nothing else in the request is used.
func CheckCSR(csr []byte, gateway string) (crypto.PublicKey, error) {
	if err := CheckGateway(gateway); err != nil {
		return nil, err
	}
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", ErrRequest)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("signature: %w", ErrRequest)
	}
	if r.Subject.CommonName != gateway {
		return nil, fmt.Errorf("it names %q, not %q: %w", r.Subject.CommonName, gateway, ErrRequest)
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("key is not ECDSA P-256: %w", ErrRequest)
	}
	return key, nil
}
