package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// says waits until the log of a process has so many lines with all of the words.
func says(t *testing.T, p *harness.Process, lines int, words ...string) {
	t.Helper()
	within(t, 20*time.Second, strings.Join(words, " "), func() bool {
		n := 0
		for line := range strings.Lines(string(readFile(t, p.Log))) {
			has := true
			for _, w := range words {
				has = has && strings.Contains(line, w)
			}
			if has {
				n++
			}
		}
		return n >= lines
	})
}

// publishAs publishes with QoS 1, and reports whether the broker let the user in.
func publishAs(t *testing.T, pub string, c *harness.Cluster, user, topic, payload string) bool {
	t.Helper()
	host, port, _ := strings.Cut(c.MQTT(), ":")
	return exec.Command(pub, "-h", host, "-p", port, "-V", "5", "-i", user+"-pub", "-u", user, "-P", "secret", "-q", "1", "-t", topic, "-m", payload).Run() == nil
}

// TestHangupOfAGateway: SIGHUP puts new users, ACL and routes in force, ends the
// connections of a user that is gone, and a file that is wrong changes nothing.
func TestHangupOfAGateway(t *testing.T) {
	pub, sub := need(t, "mosquitto_pub", "mosquitto-clients"), need(t, "mosquitto_sub", "mosquitto-clients")
	passwd := need(t, "mosquitto_passwd", "mosquitto")
	dir := t.TempDir()
	users, acl, routes := filepath.Join(dir, "users"), filepath.Join(dir, "acl"), filepath.Join(dir, "routes.yaml")
	command(t, passwd, "-c", "-b", users, "ann", "secret")
	command(t, passwd, "-b", users, "bob", "secret")
	writeFile(t, acl, []byte("pattern readwrite first/%u/#\n"))
	writeFile(t, routes, []byte("routes:\n  - {filter: first/#, topic: before}\n"))
	c := open(t, &harness.Cluster{EdgeArgs: []string{"--mqtt-users", users, "--mqtt-acl", acl, "--routes", routes}})

	host, port, _ := strings.Cut(c.MQTT(), ":")
	listening := exec.Command(sub, "-h", host, "-p", port, "-u", "bob", "-P", "secret", "-t", "first/#")
	if err := listening.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listening.Process.Kill()
		_ = listening.Wait()
	})
	within(t, 20*time.Second, "bob's connection", func() bool {
		resp, err := http.Get("http://" + c.Edge.Addr["http"] + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(body), "\nweir_mqtt_sessions 1\n")
	})
	if !publishAs(t, pub, c, "ann", "first/ann/1", "old route") || !publishAs(t, pub, c, "bob", "first/bob/1", "bob's") {
		t.Fatal("who is in the file is not let in")
	}
	publishAs(t, pub, c, "ann", "second/1", "denied")

	command(t, passwd, "-D", users, "bob")
	command(t, passwd, "-b", users, "cid", "secret")
	writeFile(t, acl, []byte("pattern readwrite first/%u/#\npattern write second/#\n"))
	writeFile(t, routes, []byte("routes:\n  - {filter: first/#, topic: after}\n  - {filter: second/#, topic: after}\n"))
	c.Edge.Signal(syscall.SIGHUP)
	says(t, c.Edge, 1, "users read again", "added=1", "changed=0", "removed=1", "connections_ended=1")
	says(t, c.Edge, 1, "ACL read again", "lines_added=1", "lines_removed=0")
	says(t, c.Edge, 1, "routes read again", "added=2", "removed=1")
	if publishAs(t, pub, c, "bob", "first/bob/2", "gone") {
		t.Error("a user that was removed is let in")
	}
	if !publishAs(t, pub, c, "ann", "first/ann/2", "new route") || !publishAs(t, pub, c, "cid", "second/2", "allowed") {
		t.Error("who is in the new file is not let in")
	}

	for _, path := range []string{users, acl, routes} {
		writeFile(t, path, []byte("nonsense\n"))
	}
	c.Edge.Signal(syscall.SIGHUP)
	for _, what := range []string{"users", "ACL", "routes"} {
		says(t, c.Edge, 1, "level=ERROR", what, "not read again")
	}
	if !publishAs(t, pub, c, "ann", "first/ann/3", "still") {
		t.Error("a wrong file keeps out who was let in before")
	}
	values := func(topic string) (all []string) {
		out, _, _ := c.Weirctl("consume", topic)
		for _, v := range []string{"old route", "bob's", "denied", "gone", "new route", "allowed", "still"} {
			if strings.Contains(out, v) {
				all = append(all, v)
			}
		}
		return all
	}
	within(t, 30*time.Second, "all records", func() bool {
		return strings.Join(values("before"), ",") == "old route,bob's" && strings.Join(values("after"), ",") == "new route,allowed,still"
	})
}

// TestHangupOfANode: SIGHUP makes a node serve with the certificate that lies in the
// file now.
func TestHangupOfANode(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := open(t, &harness.Cluster{CloudArgs: []string{"--kafka", "name=tls,listen=" + addr + ",tls-cert=" + cert + ",tls-key=" + key}})
	serial := func() int64 {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Fatalf("certificate %d", n)
	}
	writeCertificate(t, cert, key, 22)
	c.Cloud.Signal(syscall.SIGHUP)
	says(t, c.Cloud, 1, "certificates loaded again", "listener=tls")
	if n := serial(); n != 22 {
		t.Errorf("certificate %d after a reload", n)
	}
	writeFile(t, cert, []byte("nonsense"))
	c.Cloud.Signal(syscall.SIGHUP)
	says(t, c.Cloud, 1, "level=ERROR", "certificates cannot be used", "listener=tls")
	if n := serial(); n != 22 {
		t.Errorf("certificate %d after a file that is wrong", n)
	}
}

// writeCertificate writes a certificate with a serial number, and its key.
func writeCertificate(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	writeFile(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
