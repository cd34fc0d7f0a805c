// Package mysqltest starts a real MariaDB server for the tests of whatever
// keeps its objects in MySQL.
package mysqltest

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
)

// User may do everything on the server, with Password.
const (
	User     = "weir"
	Password = "weir-test-password"
)

// Server is a MariaDB server on loopback that lives as long as the test that
// started it.
type Server struct {
	Address string // 127.0.0.1:port
	Admin   *sql.DB

	program string
	folder  string
	args    []string // of the caller
	log     bytes.Buffer
	stdin   io.Closer     // nil while the server does not run
	ended   chan struct{} // closed when it has ended
}

// Start starts a server on an empty temporary folder, with args beside those
// that it needs. It looks for mariadbd and mariadb-install-db in PATH and in
// /usr/sbin, where Debian's mariadb-server-core has them. When they are not
// there the test is skipped, or fails if WEIR_REQUIRE_SERVICES is 1.
//
// It takes about a second, most of which is the system tables.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{program: find(t, "mariadbd"), folder: t.TempDir(), args: args}
	s.install(t, find(t, "mariadb-install-db"))
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("MariaDB:\n%s", s.log.String())
		}
	})

	// Between the choice of a free port and its use it can be taken.
	var err error
	for range 5 {
		if s.Address, err = freeAddress(); err != nil {
			break
		}
		if err = s.run(); err == nil {
			break
		}
		s.stop()
	}
	if err != nil {
		t.Fatalf("start MariaDB: %v", err)
	}
	s.Admin = s.open()
	t.Cleanup(func() { s.Admin.Close() })
	return s
}

func find(t testing.TB, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if program, err := exec.LookPath(candidate); err == nil {
			return program
		}
	}
	text := fmt.Sprintf("NO MYSQL TEST: no %s, neither in PATH nor in /usr/sbin. On Debian:\n"+
		"    apt-get install --no-install-recommends mariadb-server-core mariadb-client-core", name)
	if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
		t.Fatal(text)
	}
	t.Skip(text)
	return ""
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

// common are the arguments of installation and server. Small logs are quick to
// create, and root has to be told that it is meant; with --user the
// installation would also change the owner of a folder in /usr/lib.
func (s *Server) common() []string {
	args := []string{"--no-defaults"}
	if os.Geteuid() == 0 {
		args = append(args, "-uroot")
	}
	return append(args, "--datadir="+s.data(), "--tmpdir="+s.folder, "--skip-name-resolve",
		"--innodb-log-file-size=48M", "--aria-log-file-size=8M")
}

// install creates the system tables. Nothing is synced: what a crash spoils
// here is not used.
func (s *Server) install(t testing.TB, program string) {
	t.Helper()
	cmd := exec.Command(program, append(s.common(), "--auth-root-authentication-method=normal", "--skip-test-db",
		"--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	user := fmt.Sprintf("CREATE USER IF NOT EXISTS '%s'@'127.0.0.1' IDENTIFIED BY '%s';\n"+
		"GRANT ALL ON *.* TO '%[1]s'@'127.0.0.1' WITH GRANT OPTION;\n", User, Password)
	if err := os.WriteFile(s.initFile(), []byte(user), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) initFile() string { return filepath.Join(s.folder, "init.sql") }

func (s *Server) run() error {
	_, port, _ := net.SplitHostPort(s.Address)
	args := append(s.common(), "--bind-address=127.0.0.1", "--port="+port, "--socket=socket", "--pid-file=pid",
		"--init-file="+s.initFile(), "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=128M",
		"--innodb-buffer-pool-load-at-startup=0", "--aria-pagecache-buffer-size=8M", "--key-buffer-size=8M")

	// The shell ends with the server, and kills it when its standard input
	// ends, which it does even when this process is killed.
	cmd := exec.Command("sh", append([]string{"-c", `exec 3<&0
		"$@" & server=$!
		{ read -r _ <&3; kill -9 $server; } & wait $server
		kill -9 $! 2>/dev/null`, "sh", s.program}, append(args, s.args...)...)...)
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.stdin, s.ended = stdin, make(chan struct{})
	go func() {
		cmd.Wait()
		close(s.ended)
	}()
	return s.waitReady()
}

func (s *Server) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	db := s.open()
	defer db.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// Another test's server could have taken the port.
		var data string
		err := db.QueryRowContext(ctx, "SELECT @@datadir").Scan(&data)
		if err == nil && filepath.Clean(data) == s.data() {
			return nil
		}
		if err == nil {
			return fmt.Errorf("at %s is the server of %s", s.Address, data)
		}
		select {
		case <-tick.C:
		case <-s.ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("not ready after 30 s: %w", err)
		}
	}
}

func (s *Server) open() *sql.DB {
	config := mysqldriver.NewConfig()
	config.User, config.Passwd, config.Net, config.Addr = User, Password, "tcp", s.Address
	config.Logger = &mysqldriver.NopLogger{}
	connector, err := mysqldriver.NewConnector(config)
	if err != nil {
		panic(err) // the configuration is ours
	}
	return sql.OpenDB(connector)
}

func (s *Server) stop() {
	if s.stdin != nil {
		s.stdin.Close()
		<-s.ended
		s.stdin = nil
	}
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if s.stdin == nil {
		t.Fatal("the server does not run")
	}
	s.stop()
}

// Restart kills the server if it runs, and starts it again on the same folder
// and address.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.stop()
	if err := s.run(); err != nil {
		t.Fatalf("restart MariaDB: %v", err)
	}
}

// NewDatabase creates an empty database and returns its URL for storage/mysql
// and storage/open.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := "weir_" + strings.ToLower(rand.Text())
	if _, err := s.Admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create database %s: %v", name, err)
	}
	return s.URL(name)
}

// URL returns the URL of the database with a name, whether it exists or not.
func (s *Server) URL(name string) string {
	return fmt.Sprintf("mysql://%s:%s@%s/%s", User, Password, s.Address, name)
}
