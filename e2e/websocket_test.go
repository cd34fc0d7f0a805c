package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// TestWebSocket: MQTT.js, which is what web pages use, over WebSocket with and without TLS.
func TestWebSocket(t *testing.T) {
	program, dir := need(t, "node", "nodejs"), built(t, "mqtt")
	cert, key := serverCertificate(t)
	c := open(t, &harness.Cluster{EdgeArgs: []string{"--mqtt-ws", "127.0.0.1:0", "--mqtt-wss", "127.0.0.1:0",
		"--mqtts-cert", cert, "--mqtts-key", key, "--mqtt-sys-interval", "1s"}})
	source, err := os.ReadFile("clients/mqtt/round.mjs")
	if err != nil {
		t.Fatal(err)
	}
	here := t.TempDir()
	for name, do := range map[string]func(string) error{
		"round.mjs":    func(path string) error { return os.WriteFile(path, source, 0o644) },
		"node_modules": func(path string) error { return os.Symlink(filepath.Join(dir, "node_modules"), path) },
	} {
		if err := do(filepath.Join(here, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, url := range []string{"ws://" + c.Edge.Addr["mqtt-ws"] + "/mqtt", "wss://" + c.Edge.Addr["mqtt-wss"], "mqtt://" + c.MQTT()} {
		for _, version := range []string{"3", "4", "5"} {
			t.Run(url[:3]+" version "+version, func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), program, filepath.Join(here, "round.mjs"), url, version, cert)
				if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ok\n" {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}

// serverCertificate writes a certificate for 127.0.0.1 that signs itself, and its key.
func serverCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gateway"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
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
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}
