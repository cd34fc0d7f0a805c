package redis_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/redis"
	"github.com/weirmq/weir/storage/redis/redistest"
)

// TestTLS: a certificate that nobody vouches for is refused, one of a known
// authority is taken. Go reads the known ones once in a process, hence the
// second one.
func TestTLS(t *testing.T) {
	const variable = "WEIR_TEST_REDISS_URL"
	if url := os.Getenv(variable); url != "" {
		if err := storage.Probe(t.Context(), mustOpen(t, url)); err != nil {
			t.Error(err)
		}
		return
	}
	certificate, key := writeCertificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(address)
	server := redistest.Start(t, "--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key,
		"--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")
	url := strings.Replace(server.URL("weir"), "redis://", "rediss://", 1)
	url = strings.Replace(url, server.Address, address, 1)

	if _, err := redis.Open(t.Context(), url); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Open with an unknown certificate: %v", err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestTLS$")
	child.Env = append(os.Environ(), variable+"="+url, "SSL_CERT_FILE="+certificate)
	if out, err := child.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("with the certificate known: %v\n%s", err, out)
	}
}

// writeCertificate writes a certificate for 127.0.0.1 that vouches for itself.
func writeCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret)
}
