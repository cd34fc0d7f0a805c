package join

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// admit makes a key and has it certified for a node.
func admit(t *testing.T, ca *CA, path, name string, now time.Time) *Door {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := NewNodeCSR(key, name)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ca.AdmitNode(csr, name, now)
	if err != nil {
		t.Fatal(err)
	}
	a.Salts = []byte("salts")
	d, err := NewDoor(path, name, Token{Secret: [16]byte{1}}, key, a)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDoor: what a node without the CA's key gets is good for both ports for a month, is kept,
// and is renewed.
func TestDoor(t *testing.T) {
	ca, path := newCA(t), filepath.Join(t.TempDir(), "node-identity")
	if _, err := LoadDoor(path, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	d := admit(t, ca, path, "a", born.Add(day))
	loaded, err := LoadDoor(path, "a")
	if err != nil {
		t.Fatal(err)
	}
	for what, d := range map[string]*Door{"made": d, "loaded": loaded} {
		node, server := d.certificate().Leaf, d.serverCertificate().Leaf
		if name, err := CheckNode(node, ca.Certificate(), born.Add(2*day)); err != nil || name != "a" {
			t.Errorf("%s: the peer port: %q, %v", what, name, err)
		}
		if err := checkServer(server, ca.Certificate(), born); err != nil {
			t.Errorf("%s: a gateway whose clock is behind: %v", what, err)
		}
		if err := checkServer(server, ca.Certificate(), born.Add(32*day)); !errors.Is(err, ErrExpired) {
			t.Errorf("%s: after a month gateways still take the node for the cloud: %v", what, err)
		}
		if !bytes.Equal(d.Salts(), []byte("salts")) || !d.CA().Equal(ca.Certificate()) || !d.Due().Equal(born.Add(16*day)) {
			t.Errorf("%s: salts %q, due %v", what, d.Salts(), d.Due())
		}
		if !d.JoinedWith(Token{Secret: [16]byte{1}}) || d.JoinedWith(Token{Secret: [16]byte{2}}) {
			t.Errorf("%s: the token with which it has joined is not known", what)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	csr, err := loaded.CSR()
	if err != nil {
		t.Fatal(err)
	}
	next, err := ca.AdmitNode(csr, "a", born.Add(16*day))
	if err != nil {
		t.Fatal(err)
	}
	id := NewDoorIdentity(loaded, nil)
	if err := loaded.Renew(next); err != nil {
		t.Fatal(err)
	}
	if until, err := id.Expires(); err != nil || !until.Equal(born.Add(46*day)) {
		t.Errorf("renewed until %v, %v", until, err)
	}
	if again, err := LoadDoor(path, "a"); err != nil || !again.Expires().Equal(born.Add(46*day)) {
		t.Errorf("what was renewed is not kept: %v", err)
	}
	foreign, err := newCA(t).AdmitNode(csr, "a", born)
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.Renew(foreign); !errors.Is(err, ErrForeign) {
		t.Errorf("a certificate of another CA: %v", err)
	}
	if _, err := LoadDoor(path, "b"); !errors.Is(err, ErrNode) {
		t.Errorf("another node's file: %v", err)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 10, len(body) / 2, len(body) - 40} {
		if err := os.WriteFile(path, body[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadDoor(path, "a"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes of %d: %v", n, len(body), err)
		}
	}
}

// TestAdmitNodeRefuses: a request must name the node, and be signed by its key; nothing else
// in it is used.
func TestAdmitNodeRefuses(t *testing.T) {
	ca := newCA(t)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := NewNodeCSR(key, "a")
	if err != nil {
		t.Fatal(err)
	}
	bent := bytes.Clone(csr)
	bent[len(bent)-1] ^= 1
	for what, c := range map[string]struct {
		csr  []byte
		name string
	}{"another name": {csr, "b"}, "no name": {csr, ""}, "not a request": {[]byte("x"), "a"}, "signature": {bent, "a"}} {
		if _, err := ca.AdmitNode(c.csr, c.name, born); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", what, err)
		}
	}
	a, err := ca.AdmitNode(csr, "a", born)
	if err != nil {
		t.Fatal(err)
	}
	server, err := x509.ParseCertificate(a.Server)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CheckNode(server, ca.Certificate(), born); !errors.Is(err, ErrNode) {
		t.Errorf("the certificate for gateways is good at the peer port: %v", err)
	}
}
