package mqtt

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestTLS: the authenticator sees the client's certificate, and the last
// packet of a connection is not lost behind TLS either.
func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "device-7"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	own := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{own}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Listeners: []net.Listener{l}, Authenticate: func(_ context.Context, c Connect) error {
		if len(c.Certificates) == 0 || c.Certificates[0].Subject.CommonName != "device-7" {
			return ErrNotAllowed
		}
		return nil
	}})
	connect := func(certificates []tls.Certificate) (*testClient, packets.Packet) {
		nc, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: certificates})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		c := &testClient{t: t, nc: nc, r: bufio.NewReader(nc), version: 5}
		c.send(connectPacket(5, "c", true))
		return c, c.expect(packets.Connack)
	}
	if _, ack := connect(nil); ack.ReasonCode != 0x87 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	c, ack := connect([]tls.Certificate{own})
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	c.publish("a", "x", 1, 1)
	c.raw([]byte{0xc0, 1, 0})
	c.closed(0x81)
}
