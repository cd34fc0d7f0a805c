package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/edge"
)

// TestServices: systemd finds nothing wrong with the units as they are installed, and both
// services run as they say.
func TestServices(t *testing.T) {
	analyze := need(t, "systemd-analyze", "systemd")
	m := newMachine(t)
	m.install(buildDebs(t, runtime.GOARCH, newer, "bin")...)
	t.Run("units", func(t *testing.T) {
		for _, name := range []string{"weir-cloud", "weir-edge"} {
			machine{t, m.root}.checkUnit(analyze, name)
		}
		for _, name := range []string{"kafka", "sync"} {
			path := "/usr/lib/systemd/system/weir-cloud-" + name + ".socket"
			if out := m.run(analyze, "verify", path); strings.Contains(out, "weir-cloud") {
				t.Errorf("systemd-analyze verify: %s", out)
			}
		}
	})
	t.Run("run", func(t *testing.T) { machine{t, m.root}.checkServices() })
}

func (m machine) checkUnit(analyze, name string) {
	path := "/usr/lib/systemd/system/" + name + ".service"
	if out := m.run(analyze, "verify", path); strings.Contains(out, name) {
		m.t.Errorf("systemd-analyze verify: %s", out)
	}
	out := m.run(analyze, "security", "--offline=true", "--threshold=30", "--no-pager", path)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	m.t.Log(lines[len(lines)-1])
	u := readUnit(m.t, m, name)
	refused := map[string]string{"weir-cloud": "78 79", "weir-edge": "78"}[name]
	for key, want := range map[string]string{"Type": "notify", "User": "weir", "Restart": "always", "RestartPreventExitStatus": refused,
		"ExecReload": "/bin/kill -HUP $MAINPID"} {
		if got := u.one(key); got != want {
			m.t.Errorf("%s: %s=%s, want %s", name, key, got, want)
		}
	}
	if d, err := time.ParseDuration(u.one("WatchdogSec") + "s"); err != nil || d == 0 {
		m.t.Errorf("%s has no watchdog: %v", name, err)
	}
}

// checkServices: a gateway joins with a token that root gave to its group, and both say
// that they are ready, again and again that they are alive, and that they stop. The gateway
// is alive without its cloud.
func (m machine) checkServices() {
	m.write("/etc/weir/weir-cloud.env", "WEIR_CLOUD_SYNC=127.0.0.1:0\nWEIR_CLOUD_KAFKA=127.0.0.1:0\nWEIR_CLOUD_HTTP=127.0.0.1:0\n")
	cloud := m.start("weir-cloud")
	cloud.expect("READY=1")
	m.mode("/var/lib/weir-cloud/join-token", "weir", "weir", 0o600)

	m.run("install", "-m", "0640", "-g", "weir", "/var/lib/weir-cloud/join-token", "/etc/weir/join-token")
	m.write("/etc/weir/weir-edge.env", "WEIR_EDGE_MQTT=127.0.0.1:0\nWEIR_EDGE_HTTP=127.0.0.1:0\nWEIR_EDGE_CLOUD="+cloud.address("sync")+"\n")
	gateway := m.start("weir-edge")
	gateway.expect("READY=1")
	within(m.t, 30*time.Second, "the gateway joins", gateway.connected, gateway.log)
	cloud.expect("WATCHDOG=1")
	m.closed("/var/lib/weir-cloud", "admin-token", "join-token", "node-id", "bucket")
	m.closed("/var/lib/weir-edge", "admin-token", "identity.pem", "log")
	m.mode("/var/lib/weir-edge/identity.pem", "weir", "weir", 0o600)
	m.mode("/var/lib/weir-edge/admin-token", "weir", "weir", 0o640)

	gateway.reload()
	cloud.reload()
	cloud.stop()
	within(m.t, 30*time.Second, "the gateway notices", func() bool { return !gateway.connected() }, gateway.log)
	gateway.forget()
	for range 3 {
		gateway.expect("WATCHDOG=1")
	}
	gateway.stop()
}

// connected reports whether a gateway has a link to its cloud.
func (s *service) connected() bool {
	var h edge.Health
	res, err := http.Get("http://" + s.address("http") + "/healthz")
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(&h) == nil && h.Connected
}

// unit is what the keys of an installed unit are set to.
type unit map[string][]string

func readUnit(t *testing.T, m machine, name string) unit {
	t.Helper()
	body, err := os.ReadFile(m.at("/usr/lib/systemd/system/" + name + ".service"))
	if err != nil {
		t.Fatal(err)
	}
	u := make(unit)
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

func (u unit) one(key string) string { return strings.Join(u[key], " ") }

// service is the process of a unit, which was started as systemd does it.
type service struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	out    string // path of its log
	notify *net.UnixConn
}

// watchdogTime is that of these tests.
const watchdogTime = 2 * time.Second

// start starts the command of a unit with its user, its folders and its variables.
func (m machine) start(name string) *service {
	m.t.Helper()
	u := readUnit(m.t, m, name)
	uid, gid := m.user(u.one("User"))
	for _, dir := range u["StateDirectory"] {
		m.run("install", "-d", "-m", u.one("StateDirectoryMode"), "-o", u.one("User"), "-g", u.one("Group"), "/var/lib/"+dir)
	}
	env := []string{"PATH=/usr/bin", "USER=" + u.one("User"), "NOTIFY_SOCKET=/run/" + name,
		fmt.Sprintf("WATCHDOG_USEC=%d", watchdogTime.Microseconds())}
	for _, file := range u["EnvironmentFile"] {
		body, err := os.ReadFile(m.at(strings.TrimPrefix(file, "-")))
		if err != nil && !(errors.Is(err, fs.ErrNotExist) && file[0] == '-') {
			m.t.Fatal(err)
		}
		env = append(env, strings.Fields(string(body))...)
	}
	s := &service{t: m.t, name: name, out: filepath.Join(m.t.TempDir(), name+".log")}
	socket := m.at("/run/" + name)
	var err error
	if s.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"}); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { s.notify.Close() })
	if err := os.Chmod(socket, 0o666); err != nil {
		m.t.Fatal(err)
	}
	log, err := os.Create(s.out)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	command := append([]string{"/bin/sh", "-c", "umask " + u.one("UMask") + `; exec "$@"`, "sh"}, strings.Fields(u.one("ExecStart"))...)
	s.cmd = exec.Command(command[0], command[1:]...)
	s.cmd.Env, s.cmd.Dir, s.cmd.Stderr = env, "/", log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root, Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if err := s.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			s.cmd.Process.Kill()
			s.cmd.Wait()
		}
	})
	return s
}

func (s *service) log() string {
	body, err := os.ReadFile(s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// told returns what the service tells the service manager next.
func (s *service) told() string {
	s.t.Helper()
	s.notify.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 4096)
	n, err := s.notify.Read(b)
	if err != nil {
		s.t.Fatalf("%s told nothing: %v\n%s", s.name, err, s.log())
	}
	return string(b[:n])
}

// expect waits for a line, between signs of life.
func (s *service) expect(line string) {
	s.t.Helper()
	for {
		switch got := strings.Split(s.told(), "\n"); {
		case slices.Contains(got, line):
			return
		case !slices.Contains(got, "WATCHDOG=1"):
			s.t.Fatalf("%s told %q, want %q\n%s", s.name, got, line, s.log())
		}
	}
}

// forget drops what was told before.
func (s *service) forget() {
	s.notify.SetReadDeadline(time.Now().Add(-time.Second))
	for b := make([]byte, 4096); ; {
		s.notify.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := s.notify.Read(b); err != nil {
			return
		}
	}
}

// address is one of the ready line's.
func (s *service) address(name string) string {
	s.t.Helper()
	return addressIn(s.t, s.log(), name)
}

// addressIn finds an address in the ready line of a log.
func addressIn(t *testing.T, log, name string) string {
	t.Helper()
	for line := range strings.Lines(log) {
		if strings.Contains(line, " msg=ready ") {
			for field := range strings.FieldsSeq(line) {
				if addr, ok := strings.CutPrefix(field, name+"="); ok {
					return addr
				}
			}
		}
	}
	t.Fatalf("no address %s in\n%s", name, log)
	return ""
}

// reload makes the service read its files again, as its unit says.
func (s *service) reload() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	s.expect("RELOADING=1")
	s.expect("READY=1")
}

// stop stops the service as systemd does.
func (s *service) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	s.expect("STOPPING=1")
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("%s: %v\n%s", s.name, err, s.log())
	}
}

// write writes a file of the administrator.
func (m machine) write(path, body string) {
	m.t.Helper()
	if err := os.WriteFile(m.at(path), []byte(body), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// closed checks that everything in a folder is weir's and that nobody else can read it,
// and that it has some files.
func (m machine) closed(dir string, has ...string) {
	m.t.Helper()
	uid, _ := m.user("weir")
	for _, name := range has {
		if !m.there(filepath.Join(dir, name)) {
			m.t.Errorf("there is no %s in %s", name, dir)
		}
	}
	err := filepath.WalkDir(m.at(dir), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // was a file on its way to its name
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o007 != 0 || int(info.Sys().(*syscall.Stat_t).Uid) != uid {
			m.t.Errorf("%s is %v of user %d", strings.TrimPrefix(path, m.root), info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
		}
		return nil
	})
	if err != nil {
		m.t.Error(err)
	}
}
