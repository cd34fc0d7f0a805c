package join

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/weirmq/weir/storage/durable"
)

const (
	pemKey  = "PRIVATE KEY"
	pemCert = "CERTIFICATE"
)

// Identity is the key and certificate of a gateway, and the CA. All three are in one
// file (PEM, mode 0600), so that replacing it is atomic: a crash leaves the old
// identity or the new one, never a key beside a foreign certificate. Identity is safe
// for concurrent use.
type Identity struct {
	path string // empty: kept in memory only
	key  *ecdsa.PrivateKey
	ca   *x509.Certificate

	mu   sync.Mutex
	leaf *x509.Certificate // guarded by mu; replaced by Renew
}

// NewIdentity makes an identity from what a join returned, both in DER. Nothing is
// stored until Save is called.
func NewIdentity(key *ecdsa.PrivateKey, certificate, ca []byte) (*Identity, error) {
	root, err := x509.ParseCertificate(ca)
	if err != nil {
		return nil, fmt.Errorf("parse CA certificate: %w", ErrCorrupt)
	}
	id := &Identity{key: key, ca: root}
	if id.leaf, err = id.check(certificate); err != nil {
		return nil, err
	}
	return id, nil
}

// LoadIdentity reads the identity at path. The error is fs.ErrNotExist if there is no
// file, ErrCorrupt if the file holds no identity.
func LoadIdentity(path string) (*Identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	var key *ecdsa.PrivateKey
	var certs [][]byte
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case pemCert:
			certs = append(certs, block.Bytes)
		case pemKey:
			if key, err = parseKey(path, block.Bytes); err != nil {
				return nil, err
			}
		}
	}
	if key == nil || len(certs) != 2 {
		return nil, fmt.Errorf("read %s: key, certificate and CA expected: %w", path, ErrCorrupt)
	}
	id, err := NewIdentity(key, certs[0], certs[1])
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	id.path = path
	return id, nil
}

// Save stores the identity at path, atomically and durably, and remembers path
// for Renew.
func (id *Identity) Save(path string) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if err := id.store(path, id.leaf); err != nil {
		return err
	}
	id.path = path
	return nil
}

// Renew replaces the certificate by one that the cloud sent (DER) and stores it.
// Sessions dialled from now on use it. After an error the old one stays in use, except
// after ErrNotStored: then the new one is used until the process ends.
func (id *Identity) Renew(certificate []byte) error {
	leaf, err := id.check(certificate)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if leaf.Subject.CommonName != id.leaf.Subject.CommonName {
		return fmt.Errorf("renew certificate: it is for %q: %w", leaf.Subject.CommonName, ErrRequest)
	}
	id.leaf = leaf
	if id.path == "" {
		return nil
	}
	if err := id.store(id.path, leaf); err != nil {
		return fmt.Errorf("renew certificate: %w: %w", ErrNotStored, err)
	}
	return nil
}

// Key returns the gateway's key, with which it may join again.
func (id *Identity) Key() *ecdsa.PrivateKey { return id.key }

// CSR returns a request for a new certificate for the same key.
func (id *Identity) CSR() ([]byte, error) { return NewCSR(id.key, id.Gateway()) }

// Gateway is the gateway id, the name in the certificate.
func (id *Identity) Gateway() string { return id.Leaf().Subject.CommonName }

// Leaf is the current certificate.
func (id *Identity) Leaf() *x509.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.leaf
}

// CA is the certificate of the CA.
func (id *Identity) CA() *x509.Certificate { return id.ca }

func (id *Identity) certificate() *tls.Certificate {
	leaf := id.Leaf()
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: id.key, Leaf: leaf}
}

// check parses a certificate and checks that it is of our CA and for our key.
func (id *Identity) check(der []byte) (*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", ErrCorrupt)
	}
	if !id.key.PublicKey.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("certificate is for another key: %w", ErrCorrupt)
	}
	if err := CheckClient(leaf, id.ca, leaf.NotBefore); err != nil {
		return nil, err
	}
	return leaf, nil
}

func (id *Identity) store(path string, leaf *x509.Certificate) error {
	b, err := encodeKey(id.key)
	if err != nil {
		return err
	}
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: leaf.Raw})...)
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: id.ca.Raw})...)
	if err := storeFile(path, b); err != nil {
		return fmt.Errorf("store identity: %w", err)
	}
	return nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal gateway key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// OpenKey returns the key at path, and makes one if there is none. The key is durable
// on return. A gateway stores its key before it asks to join: once the cloud has
// answered, the id belongs to that key alone. If the key were lost then, the gateway
// could not use its own id again. The error is ErrCorrupt if the file holds no key.
func OpenKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newStoredKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read gateway key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemKey {
		return nil, fmt.Errorf("read key in %s: %w", path, ErrCorrupt)
	}
	return parseKey(path, block.Bytes)
}

func parseKey(path string, der []byte) (*ecdsa.PrivateKey, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if key, ok := k.(*ecdsa.PrivateKey); err == nil && ok {
		return key, nil
	}
	return nil, fmt.Errorf("read key in %s: %w", path, ErrCorrupt)
}

func newStoredKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	b, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := storeFile(path, b); err != nil {
		return nil, fmt.Errorf("store gateway key: %w", err)
	}
	return key, nil
}

// storeFile writes a new file beside path, syncs it, renames it and syncs the
// directory. A crash before the rename leaves a temporary file that the next
// one overwrites.
func storeFile(path string, body []byte) error {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	return err
}
