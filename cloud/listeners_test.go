package cloud

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/storage/mem"
)

// certify writes a certificate of that number, and its key.
func certify(t *testing.T, k listener.Settings, number int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(number), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{k.TLSCert: {Type: "CERTIFICATE", Bytes: der}, k.TLSKey: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1_700_000_000+number, 0) // clocks of file systems are coarse
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCertificatesAreReloaded: a new certificate is served from the next
// connection on; one that is damaged changes nothing.
func TestCertificatesAreReloaded(t *testing.T) {
	dir := t.TempDir()
	k := listener.Settings{Name: "tls", Listen: "127.0.0.1:0", TLSCert: filepath.Join(dir, "cert"), TLSKey: filepath.Join(dir, "key")}
	certify(t, k, 1)
	said := make(chan string, 1000)
	n, err := Open(t.Context(), Options{Bucket: mem.New(), Data: t.TempDir(), Node: "a", Sync: Off, HTTP: HTTP{Listen: Off}, Kafka: []listener.Settings{k},
		Log: slog.New(heard{slog.DiscardHandler, said})})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- n.kafka.Serve() }()
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	number := func() int64 {
		nc, err := tls.Dial("tcp", n.self.Address(cluster.Kafka), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		return nc.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := number(); got != 1 {
		t.Errorf("certificate %d", got)
	}
	certify(t, k, 2)
	if got := number(); got != 2 {
		t.Errorf("after a new one: certificate %d", got)
	}
	if err := os.WriteFile(k.TLSCert, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := number(); got != 2 {
		t.Errorf("after a damaged one: certificate %d", got)
	}
	if err := os.Remove(k.TLSCert); err != nil {
		t.Fatal(err)
	}
	if got := number(); got != 2 {
		t.Errorf("after none: certificate %d", got)
	}
	certify(t, k, 3)
	if got := number(); got != 3 {
		t.Errorf("after the repair: certificate %d", got)
	}
}

// TestListenersOfANode: others learn all addresses, each by its name, and weirctl
// the first one.
func TestListenersOfANode(t *testing.T) {
	o := Options{Bucket: mem.New(), Data: t.TempDir(), Node: "a", Sync: Off, HTTP: HTTP{Listen: Off}, Log: slog.New(slog.DiscardHandler), Kafka: []listener.Settings{
		{Name: "in", Listen: "127.0.0.1:0"}, {Name: "out", Listen: "127.0.0.1:0", Advertise: "out.example:9094"},
		{Name: "other", Listen: "127.0.0.1:0", Advertise: "2001:db8::1", SASL: []string{login.ScramSHA256}}}}
	n, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if n.self.Address(cluster.Kafka) != n.self.ListenerAddress(cluster.Kafka, "in") || !strings.HasPrefix(n.self.Address(cluster.Kafka), "127.0.0.1:") || n.self.ListenerAddress(cluster.Kafka, "out") != "out.example:9094" ||
		!strings.HasPrefix(n.self.ListenerAddress(cluster.Kafka, "other"), "[2001:db8::1]:") || n.self.ListenerAddress(cluster.Kafka, "none") != "" {
		t.Errorf("%+v", n.self)
	}
	if old := (broker.Node{Addresses: cluster.Addresses{cluster.Kafka: {"": "a:1"}}}); old.ListenerAddress(cluster.Kafka, "any") != "a:1" {
		t.Error("a node that names no listeners is not found")
	}
	for what, wrong := range map[string]listener.Settings{
		"set together": {Listen: "127.0.0.1:0", TLSCert: "x"}, "called": {Name: "in", Listen: "127.0.0.1:0"},
		"no such file": {Listen: "127.0.0.1:0", TLSCert: "nowhere", TLSKey: "nowhere"}, "OAUTHBEARER": {Listen: "127.0.0.1:0", SASL: []string{login.OAuthBearer}},
	} {
		bad := o
		bad.Data, bad.Kafka = t.TempDir(), []listener.Settings{{Name: "in", Listen: "127.0.0.1:0"}, wrong}
		if _, err := Open(t.Context(), bad); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}
