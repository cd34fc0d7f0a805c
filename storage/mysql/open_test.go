package mysql

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/mysql/mysqltest"
)

func TestParse(t *testing.T) {
	t.Setenv("MYSQL_PASSWORD", "from the environment")
	for _, test := range []struct{ url, address, user, password, database, table, tls string }{
		{"mysql://u:p@h:1234/d", "h:1234", "u", "p", "d", "weir", "false"},
		{"mysql://u:p@h/d", "h:3306", "u", "p", "d", "weir", "false"},
		{"mysql://u@h/d", "h:3306", "u", "from the environment", "d", "weir", "false"},
		{"mysql://u:@h/d", "h:3306", "u", "", "d", "weir", "false"},
		{"mysql://a%40b:p%2F%3F%23%3A%40@[::1]/a-b_$1", "[::1]:3306", "a@b", "p/?#:@", "a-b_$1", "weir", "false"},
		{"mysql://u:p@h/d?table=Weir_2&tls=true", "h:3306", "u", "p", "d", "Weir_2", "true"},
		{"mysql://u:p@h/d?tls=skip-verify", "h:3306", "u", "p", "d", "weir", "skip-verify"},
	} {
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		c, name, err := parse(u)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if c.Addr != test.address || c.User != test.user || c.Passwd != test.password || c.DBName != test.database ||
			string(name) != test.table || c.TLSConfig != test.tls {
			t.Errorf("%s: %s %s %q %s %s %s", test.url, c.Addr, c.User, c.Passwd, c.DBName, name, c.TLSConfig)
		}
	}
}

// TestOpenRefuses: what is wrong is said in a sentence, and no error shows the
// password, however the URL is written wrongly.
func TestOpenRefuses(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"mysql:host", "must be mysql://"},
		{"mysql://", "must be mysql://"},
		{"mysql:///d", "must be mysql://"},
		{"mysql://host/d", "must be mysql://"},
		{"mysql://:hunter2@host/d", "must be mysql://"},
		{"mysql://u:hunter2@host", "must be mysql://"},
		{"mysql://u:hunter2@host/", "must be mysql://"},
		{"mysql://u:hunter2@host/d/e", "must be mysql://"},
		{"mysql://u:hunter2@host:port/d", "must be mysql://"},
		{"mysql://u:hunter2/x@host/d", "must be mysql://"},
		{"mysql://u:12/hunter2@host/d", "must be mysql://"},
		{"mysql://u:12#hunter2@host/d", "must be mysql://"},
		{"mysql://u:12?hunter2@host/d", "must be mysql://"},
		{"mysql://u:a@b/c?hunter2@host/d", "unknown parameter: use table or tls"},
		{"mysql://u:%hunter2@host/d", "must be mysql://"},
		{"mysql://u:hunter2@host/d?table=a%", "must be mysql://"},
		{"mysql://u:hunter2@host/d?tabel=x", `unknown parameter "tabel": use table or tls`},
		{"mysql://u:hunter2@host/d?table=a`b", "table must be a name"},
		{"mysql://u:hunter2@host/d?table=", "table must be a name"},
		{"mysql://u:hunter2@host/d?tls=yes", "tls must be true, skip-verify or false"},
		{"mysql://u:hunter2@127.0.0.1:1/d", "mysql bucket d on 127.0.0.1:1: the server does not answer"},
	} {
		b, err := Open(t.Context(), test.url)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open(%s): %v, want %q", test.url, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
		if b != nil {
			t.Errorf("Open(%s): a bucket beside the error", test.url)
		}
	}
}

// refused fails unless Open does not like what it finds, says so, and shows no
// password.
func refused(t *testing.T, url, want string, permission bool) {
	t.Helper()
	_, err := Open(t.Context(), url)
	if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, fs.ErrPermission) != permission {
		t.Errorf("Open: %v, want %q, not permitted: %v", err, want, permission)
	}
	if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), mysqltest.Password)) {
		t.Errorf("the error shows a password: %v", err)
	}
}

// as returns the URL for another user, whose password is hunter2.
func as(user, url string) string {
	return strings.Replace(url, mysqltest.User+":"+mysqltest.Password, user+":hunter2", 1)
}

func database(url string) string { return url[strings.LastIndex(url, "/")+1:] }

// TestOpenServer: what is wrong with the user, the tables or the server.
func TestOpenServer(t *testing.T) {
	server := mysqltest.Start(t)
	admin(t, server, "CREATE USER small@127.0.0.1 IDENTIFIED BY 'hunter2'")
	t.Run("User", func(t *testing.T) { testOpenUser(t, server) })
	t.Run("Table", func(t *testing.T) { testOpenTable(t, server) })
	t.Run("Settings", func(t *testing.T) { testOpenSettings(t, server) })
}

// testOpenUser: with the table there, three privileges are enough.
func testOpenUser(t *testing.T, server *mysqltest.Server) {
	url := server.NewDatabase(t)
	refused(t, server.URL("not_there"), "the database does not exist: create it first", false)
	refused(t, as("nobody", url), `the server refuses user "nobody"`, true)
	refused(t, as(mysqltest.User, url), `the server refuses user "weir"`, true)
	refused(t, url+"?tls=true", "the server does not answer: TLS requested but server does not support TLS", false)

	admin(t, server, "GRANT SELECT, INSERT, DELETE ON "+database(url)+".* TO small@127.0.0.1")
	refused(t, as("small", url), "could not be created (let an administrator run", true)
	mustOpen(t, url)
	small := mustOpen(t, as("small", url))
	for _, want := range []string{done, exists} {
		if err := small.Create(t.Context(), "key", nil); outcome(err) != want {
			t.Errorf("Create: %v, want %s", err, want)
		}
	}
	if err := small.Delete(t.Context(), "key"); err != nil {
		t.Error(err)
	}
	if warnings := small.Warnings(t.Context()); len(warnings) > 0 {
		t.Errorf("Warnings: %q", warnings)
	}
}

// testOpenTable: a table of that name that cannot hold a bucket.
func testOpenTable(t *testing.T, server *mysqltest.Server) {
	schema := func(old, with string) string { return strings.Replace(table("weir").schema(), old, with, 1) }
	for want, statement := range map[string]string{
		`has the engine "MyISAM": it must be InnoDB`: schema("InnoDB ROW_FORMAT = DYNAMIC", "MyISAM"),
		"its columns are name varchar(512)":          schema("VARBINARY", "VARCHAR"),
		"its columns are name varbinary(100)":        schema("512", "100"),
		"its columns are id int":                     "CREATE TABLE `weir` (id INT PRIMARY KEY)",
		"its keys are PRIMARY 0 name(100)":           schema("KEY (name", "KEY (name(100)"),
		"other 0 size":                               schema("KEY names", "UNIQUE KEY other (size), KEY names"),
		`has the engine "": it must be InnoDB`:       "CREATE VIEW `weir` AS SELECT 1",
	} {
		url := server.NewDatabase(t)
		admin(t, server, strings.Replace(statement, "`weir`", database(url)+".weir", 1))
		refused(t, url, want, false)
	}
}

// testOpenSettings: not even one who may write to a read-only server does.
func testOpenSettings(t *testing.T, server *mysqltest.Server) {
	url := server.NewDatabase(t)
	admin(t, server, "SET GLOBAL max_allowed_packet = 524288")
	refused(t, url, "max_allowed_packet is 524288: set it to", false)
	admin(t, server, "SET GLOBAL max_allowed_packet = 1048576")
	if err := mustOpen(t, url).Create(t.Context(), "large", make([]byte, 2*partSize)); err != nil {
		t.Errorf("Create with a small max_allowed_packet: %v", err)
	}

	admin(t, server, "GRANT SELECT, INSERT, DELETE ON "+database(url)+".* TO small@127.0.0.1")
	b := mustOpen(t, as("small", url))
	admin(t, server, "SET GLOBAL read_only = 1")
	refused(t, url, "the server is read-only (read_only is on)", false)
	if err := b.Create(t.Context(), "key", nil); outcome(err) != nothing {
		t.Errorf("Create on a server that was made read-only: %v, want that nothing happened", err)
	}
	if err := b.Delete(t.Context(), "large"); outcome(err) != nothing {
		t.Errorf("Delete on a server that was made read-only: %v, want that nothing happened", err)
	}
}

// TestOpenTogether: many processes that start at once share the table that one
// of them creates.
func TestOpenTogether(t *testing.T) {
	server := mysqltest.Start(t)
	url := server.NewDatabase(t)
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			b, err := Open(t.Context(), url)
			if err == nil {
				b.Close()
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestTLS: skip-verify is content with any certificate, true is not.
func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	server := mysqltest.Start(t, "--ssl-cert="+cert, "--ssl-key="+key)
	url := server.NewDatabase(t)
	for query, want := range map[string]bool{"": false, "?tls=false": false, "?tls=skip-verify": true} {
		var name, cipher string
		err := mustOpen(t, url+query).db.QueryRow("SHOW SESSION STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher)
		if err != nil || (cipher != "") != want {
			t.Errorf("%q: %v, cipher %q", query, err, cipher)
		}
	}
	var unknown x509.UnknownAuthorityError
	if _, err := Open(t.Context(), url+"?tls=true"); !errors.As(err, &unknown) {
		t.Errorf("tls=true with a certificate that nobody signed: %v", err)
	}
}

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	public, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", public), write("key.pem", "PRIVATE KEY", secret)
}
