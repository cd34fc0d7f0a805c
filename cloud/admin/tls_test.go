package admin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/budget"
)

// writePair writes a certificate for localhost and its key.
func writePair(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func write(t *testing.T, path string, body []byte) {
	t.Helper()
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCertificates: an admin port serves with the certificate that lies in its files now, and
// goes on with the last one that could be used.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	var lines bytes.Buffer
	log := slog.New(slog.NewTextHandler(&lines, nil))
	if _, err := Certificates(cert, key, log); err == nil {
		t.Error("without files")
	}
	write(t, cert, []byte("no certificate"))
	write(t, key, nil)
	if _, err := Certificates(cert, key, log); err == nil {
		t.Error("with files that hold none")
	}
	writePair(t, cert, key, 1)
	certificates, err := Certificates(cert, key, log)
	if err != nil {
		t.Fatal(err)
	}
	p := newPort(Options{})
	address := serveTLS(t, p, certificates.TLS(), log)
	serial := func() int64 { return servedWith(t, p, address) }
	if n := serial(); n != 1 {
		t.Errorf("certificate %d", n)
	}
	writePair(t, cert, key, 22222) // of another length: the file's time may be the same
	if n := serial(); n != 22222 {
		t.Errorf("certificate %d after a renewal", n)
	}
	write(t, cert, []byte("half written"))
	if n := serial(); n != 22222 || !strings.Contains(lines.String(), "cannot be used") {
		t.Errorf("certificate %d beside a damaged file\n%s", n, &lines)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if n := serial(); n != 22222 {
		t.Errorf("certificate %d without a key", n)
	}
}

// serveTLS serves a port until the test ends.
func serveTLS(t *testing.T, p *port, config *tls.Config, log *slog.Logger) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := Server(p.Guard, log)
	done := make(chan error, 1)
	go func() {
		done <- server.Serve(tls.NewListener(Limit(l, "http", budget.NewConns(budget.ConnsOptions{Log: log})), config))
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return l.Addr().String()
}

// servedWith is the serial number of the certificate that a request is answered with.
func servedWith(t *testing.T, p *port, address string) int64 {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+address+"/read", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.own)
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("status %d", res.StatusCode)
	}
	return res.TLS.PeerCertificates[0].SerialNumber.Int64()
}

// TestLimit: connections of strangers keep no caller with a credential out, and the end
// of a connection frees its seat.
func TestLimit(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limited := Limit(l, "http", budget.NewConns(budget.ConnsOptions{Log: log}))
	p := newPort(Options{Traffic: limited.Traffic()})
	server := Server(p.Guard, log)
	done := make(chan error, 1)
	go func() { done <- server.Serve(limited) }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	for range 2 * maxStrangers {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte("GET /open HTTP/1.1\r\n")); err != nil {
			continue // thrown out already
		}
	}
	client := http.Client{Timeout: 20 * time.Second}
	for range 2 * maxStrangers {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+l.Addr().String()+"/read", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+p.own)
		req.Close = true
		res, err := client.Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%v, %v", res, err)
		}
		res.Body.Close()
	}
	if all, strangers := limited.gate.Open(); strangers > maxStrangers || all > maxStrangers+1 {
		t.Errorf("%d connections, %d of strangers", all, strangers)
	}
	c := limited.Counts()
	if len(c) != 1 || c[0].Requests != 2*maxStrangers || c[0].Errors != 0 || c[0].Accepted != 4*maxStrangers || c[0].GaveWay < maxStrangers || c[0].Received < 2*maxStrangers*50 || c[0].Sent < 2*maxStrangers*50 {
		t.Errorf("%+v", c)
	}
}
