package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// commitDate is when the sources of these tests' packages are from.
var commitDate = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

const (
	older, olderDebian = "v1.2.0-rc1", "1.2.0~rc1"
	newer, newerDebian = "v1.2.0-5-gabc1234", "1.2.0+5.gabc1234"
)

// installed returns the version of a package that is installed whole, "" if it is not.
func (m machine) installed(name string) string {
	out, err := m.try("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", name)
	version, ok := strings.CutPrefix(out, "installed ")
	if err != nil || !ok {
		return ""
	}
	return version
}

// TestPackages: the packages are installed, upgraded, removed, installed again and purged,
// with their scripts, on a machine without systemd. Data and what the administrator has
// changed stay.
func TestPackages(t *testing.T) {
	need(t, "dpkg", "dpkg")
	need(t, "adduser", "adduser")
	m := newMachine(t)
	first, second := buildDebs(t, runtime.GOARCH, older, "bin"), buildDebs(t, runtime.GOARCH, newer, "bin")
	m.install(first...)
	m.checkInstalled(olderDebian)
	for _, name := range []string{"weir-cloud", "weir-edge"} {
		if !m.there(enabledLink(name)) {
			t.Errorf("%s is not enabled", name)
		}
	}

	reading := "/var/lib/weir-edge/reading"
	m.run("setpriv", "--reuid=weir", "--regid=weir", "--clear-groups", "sh", "-c", "echo 21.5 >"+reading)
	m.run("sh", "-c", "echo '# by hand' >>/etc/weir/weir-edge.yaml; chmod 0600 /etc/weir/weir-cloud.yaml")
	m.run("systemctl", "disable", "weir-cloud.service")
	m.install(second...)
	m.checkInstalled(newerDebian)
	m.checkKept(reading)
	m.mode("/etc/weir/weir-cloud.yaml", "root", "weir", 0o600)
	if m.there(enabledLink("weir-cloud")) || !m.there(enabledLink("weir-edge")) {
		t.Error("an upgrade has enabled or disabled a service")
	}

	m.run("dpkg", "--remove", "weir-edge", "weir-cloud", "weir-tools")
	for _, gone := range []string{"/usr/bin/weir-edge", "/usr/bin/weir-cloud", "/usr/bin/weirctl", "/usr/bin/firmware-sim", "/usr/lib/systemd/system/weir-edge.service"} {
		if m.there(gone) {
			t.Errorf("%s is there after the removal", gone)
		}
	}
	m.checkKept(reading)
	m.install(second...)
	m.checkInstalled(newerDebian)
	m.checkKept(reading)

	said := m.run("dpkg", "--purge", "weir-edge", "weir-cloud", "weir-tools")
	if !strings.Contains(said, "weir-edge: its data is left in /var/lib/weir-edge") {
		t.Errorf("nobody is told where the data is:\n%s", said)
	}
	for _, gone := range []string{"/etc/weir", enabledLink("weir-edge"), "/var/lib/weir-cloud", "/usr/share/doc/weir-edge"} {
		if m.there(gone) {
			t.Errorf("%s is there after the purge", gone)
		}
	}
	if body, err := os.ReadFile(m.at(reading)); err != nil || string(body) != "21.5\n" {
		t.Errorf("data after the purge: %q, %v", body, err)
	}
	m.user("weir") // the data is still somebody's
}

func enabledLink(name string) string {
	return "/etc/systemd/system/multi-user.target.wants/" + name + ".service"
}

// checkInstalled checks what a version has put there.
func (m machine) checkInstalled(version string) {
	m.t.Helper()
	for _, name := range debNames {
		if got := m.installed(name); got != version {
			m.t.Errorf("version %q of %s is installed, want %q", got, name, version)
		}
	}
	for _, name := range binaries {
		m.run(name, "--version")
	}
	if uid, _ := m.user("weir"); uid == 0 || uid >= 1000 {
		m.t.Errorf("user weir has id %d, which is not one of the system", uid)
	}
	if shell := m.run("getent", "passwd", "weir"); !strings.HasSuffix(strings.TrimSpace(shell), "/nologin") {
		m.t.Errorf("somebody can log in as weir: %s", shell)
	}
	m.mode("/etc/weir", "root", "weir", 0o750)
	m.mode("/etc/weir/weir-edge.yaml", "root", "weir", 0o640)
	m.mode("/var/lib/weir-edge", "weir", "weir", 0o750)
	m.mode("/var/lib/weir-cloud", "weir", "weir", 0o750)
	m.mode("/usr/bin/weir-edge", "root", "root", 0o755)
}

// checkKept checks that what the first version's user did is still there.
func (m machine) checkKept(reading string) {
	m.t.Helper()
	if body, err := os.ReadFile(m.at(reading)); err != nil || string(body) != "21.5\n" {
		m.t.Errorf("data: %q, %v", body, err)
	}
	if body, err := os.ReadFile(m.at("/etc/weir/weir-edge.yaml")); err != nil || !strings.HasSuffix(string(body), "# by hand\n") {
		m.t.Errorf("the configuration that was edited is gone (%v)", err)
	}
}

// TestPackagesOfPlatforms: what dpkg reads in the packages of each platform, with small
// files in the place of binaries. The same files give the same packages.
func TestPackagesOfPlatforms(t *testing.T) {
	dpkg := need(t, "dpkg-deb", "dpkg")
	bin := t.TempDir()
	for _, name := range binaries {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	contents := make(map[string]string) // of packages, by name
	for round := range 2 {
		for arch, p := range platforms {
			for _, deb := range buildDebs(t, arch, newer, bin) {
				file := filepath.Base(deb)
				name := strings.TrimSuffix(file, fmt.Sprintf("_%s_%s.deb", newerDebian, p.debian))
				if !slices.Contains(debNames, name) {
					t.Errorf("%s is named like none of %v for %s", deb, debNames, arch)
				}
				out, err := exec.Command(dpkg, "--field", deb, "Package", "Version", "Architecture").CombinedOutput()
				want := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\n", name, newerDebian, p.debian)
				if err != nil || string(out) != want {
					t.Errorf("%s: got %q (%v), want %q", deb, out, err, want)
				}
				body, err := os.ReadFile(deb)
				if err != nil {
					t.Fatal(err)
				}
				if round == 1 && contents[file] != string(body) {
					t.Errorf("%s differs from one time to the next", file)
				}
				contents[file] = string(body)
			}
		}
	}
}
