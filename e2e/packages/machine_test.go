package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// machine is a copy of this machine that is thrown away: what is written there goes into
// memory, and systemd does not run. Packages are installed there for real.
type machine struct {
	t    *testing.T
	root string
}

// newMachine needs root and an overlay file system.
func newMachine(t *testing.T) machine {
	t.Helper()
	if os.Getuid() != 0 {
		unable(t, "root is needed to install packages in a copy of this machine")
	}
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=1g,mode=0755")
	upper, work, root := filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "root")
	for _, d := range []string{upper, work, root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, "overlay", root, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work)
	mount(t, "/dev", filepath.Join(root, "dev"), "", syscall.MS_BIND, "")
	mount(t, "proc", filepath.Join(root, "proc"), "proc", 0, "")
	mount(t, "tmpfs", filepath.Join(root, "run"), "tmpfs", 0, "size=16m,mode=0755")
	return machine{t, root}
}

func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		unable(t, fmt.Sprintf("%s cannot be mounted here: %v", kind, err))
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}

// unable skips the test, loudly, or fails where everything has to be there.
func unable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("WEIR_REQUIRE_SERVICES") != "" {
		t.Fatal(why)
	}
	t.Skip("SKIPPED: " + why)
}

// need returns the path of a program that a test needs.
func need(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		unable(t, fmt.Sprintf("%s is not installed (package %s)", program, pkg))
	}
	return path
}

// try runs a program on the machine, as root and with nobody to answer a question.
func (m machine) try(args ...string) (string, error) {
	cmd := exec.Command("/usr/bin/env", append([]string{"-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run is try, for what has to succeed.
func (m machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// at is a path of the machine, as this process sees it.
func (m machine) at(path string) string { return filepath.Join(m.root, path) }

// install gives packages to dpkg.
func (m machine) install(debs ...string) string {
	m.t.Helper()
	args := []string{"dpkg", "--install"}
	for _, deb := range debs {
		body, err := os.ReadFile(deb)
		if err != nil {
			m.t.Fatal(err)
		}
		inside := "/tmp/" + filepath.Base(deb)
		if err := os.WriteFile(m.at(inside), body, 0o644); err != nil {
			m.t.Fatal(err)
		}
		args = append(args, inside)
	}
	return m.run(args...)
}

// user returns the ids of a user of the machine.
func (m machine) user(name string) (uid, gid int) {
	m.t.Helper()
	for line := range strings.Lines(m.run("getent", "passwd", name)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		uid, err := strconv.Atoi(fields[2])
		gid, err2 := strconv.Atoi(fields[3])
		if err := errors.Join(err, err2); err != nil {
			m.t.Fatal(err)
		}
		return uid, gid
	}
	m.t.Fatalf("there is no user %s", name)
	return 0, 0
}

// mode checks who owns a file and what for.
func (m machine) mode(path, owner, group string, want fs.FileMode) {
	m.t.Helper()
	info, err := os.Stat(m.at(path))
	if err != nil {
		m.t.Error(err)
		return
	}
	got := strings.TrimSpace(m.run("stat", "-c", "%U:%G", path))
	if info.Mode().Perm() != want || got != owner+":"+group {
		m.t.Errorf("%s is %v %s, want %v %s:%s", path, info.Mode().Perm(), got, want, owner, group)
	}
}

func (m machine) there(path string) bool {
	_, err := os.Lstat(m.at(path))
	return err == nil
}

// binaries are what make build makes.
var binaries = []string{"weir-cloud", "weir-edge", "weirctl", "firmware-sim"}

// buildDebs makes packages of the binaries in a folder, under a version.
func buildDebs(t *testing.T, arch, version, bin string) []string {
	t.Helper()
	nfpm := os.Getenv("WEIR_NFPM")
	if nfpm == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		nfpm = filepath.Join(home, "weir", "bin", "nfpm")
	}
	if _, err := os.Stat(nfpm); err != nil {
		unable(t, "nfpm is not built (make deb builds it)")
	}
	j := builder(t, arch, version)
	j.nfpm, j.bin = nfpm, bin
	debs, err := j.debs()
	if err != nil {
		t.Fatal(err)
	}
	return debs
}

// builder makes packages and images of what make build has made.
func builder(t *testing.T, arch, version string) job {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	j := job{root: root, bin: "bin", arch: arch, version: version, date: commitDate, out: t.TempDir()}
	for _, name := range binaries {
		if _, err := os.Stat(filepath.Join(root, "bin", name)); err != nil {
			t.Fatalf("not built, run make build: %v", err)
		}
	}
	return j
}
