package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/sync/join"
)

// TestSampleConfig: the sample beside the flags' documentation is one that
// works.
func TestSampleConfig(t *testing.T) {
	s, err := parse([]string{"--config", "../../configs/weir-edge.yaml"}, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.data != "/var/lib/weir-edge" {
		t.Errorf("data is %q", s.data)
	}
}

// TestDeviceLimits: a limit that cannot be meant is refused with the flag's
// name.
func TestDeviceLimits(t *testing.T) {
	for _, args := range [][]string{
		{"--mqtt-connections", "0"}, {"--mqtt-connections-per-address", "-1"}, {"--mqtt-connecting", "0"},
		{"--mqtt-arriving", "1000"}, {"--mqtt-client-state", "10"}, {"--mqtt-sessions", "0"},
		{"--mqtt-state", "1000"}, {"--mqtt-state", "900000000"}, {"--mqtt-connect-timeout", "1ms"},
		{"--mqtt-packet-timeout", "0"}, {"--mqtt-packet-rate", "0"}, {"--mqtt-session-expiry", "10ms"},
		{"--mqtt-packet-size", "100"}, {"--mqtt-packet-size", "2000000"}, {"--mqtt-levels", "0"}, {"--mqtt-levels", "5000"},
		{"--mqtt-keep-alive", "100ms"}, {"--mqtt-keep-alive", "20h"}, {"--mqtt-receive-maximum", "0"}, {"--mqtt-receive-maximum", "70000"},
		{"--mqtt-topic-aliases", "0"}, {"--mqtt-subscriptions", "0"}, {"--mqtt-inflight", "70000"}, {"--mqtt-queued", "0"},
		{"--mqtt-queued-bytes", "-1"}, {"--mqtt-queued-total", "-1"}, {"--mqtt-retained", "0"}, {"--mqtt-retained-bytes", "-1"},
		{"--mqtt-sys-interval", "10ms"},
	} {
		if _, err := parse(args, nil, io.Discard); err == nil || !strings.Contains(err.Error(), args[0]+" ") {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := parse([]string{"--mqtt-state", "33554432", "--mqtt-session-expiry", "0"}, nil, io.Discard); err != nil {
		t.Error(err)
	}
}

// TestDurations: every time takes days.
func TestDurations(t *testing.T) {
	for _, flag := range []string{"--mqtt-connect-timeout", "--mqtt-packet-timeout", "--mqtt-sys-interval", "--mqtt-session-expiry"} {
		if _, err := parse([]string{flag, "1d"}, nil, io.Discard); err != nil {
			t.Error(err)
		}
	}
	if s, err := parse([]string{"--mqtt-keep-alive", "0.5d", "--mqtt-packet-rate", "1KiB"}, nil, io.Discard); err != nil || s.devices.KeepAlive != 12*time.Hour || s.devices.PacketRate != 1024 {
		t.Errorf("%v, %d: %v", s.devices.KeepAlive, s.devices.PacketRate, err)
	}
}

// TestNewIDs: a gateway that has not joined gets an id that begins with a letter or
// digit; one that has keeps its own.
func TestNewIDs(t *testing.T) {
	for _, id := range []string{".", "..", ".a", "-a", "_a"} {
		data := t.TempDir()
		args := []string{"--data", data, "--gateway-id=" + id}
		if _, err := parse(args, nil, io.Discard); err == nil || !strings.Contains(err.Error(), "begin with a letter or digit") {
			t.Errorf("%s: %v", id, err)
		}
		saveIdentity(t, filepath.Join(data, "identity.pem"), id)
		if _, err := parse(args, nil, io.Discard); err != nil {
			t.Errorf("%s, which has joined: %v", id, err)
		}
	}
}

// saveIdentity writes what a gateway has when it has joined.
func saveIdentity(t *testing.T, path, id string) {
	t.Helper()
	now := time.Now()
	ca, err := join.NewCA(now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := join.NewCSR(key, id)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignGateway(csr, id, now, 0)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := join.NewIdentity(key, der, ca.Certificate().Raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.Save(path); err != nil {
		t.Fatal(err)
	}
}

// TestExitCodes: settings that are wrong end with the code after which the unit is not
// started again, and what may pass with one after which it is.
func TestExitCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := file + "-wrong"
	if err := os.WriteFile(wrong, []byte("who\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--mqqt", "x"}, exitSettings},
		{[]string{"--config", file + "-not-there"}, exitSettings},
		{[]string{"--mqtt", "127.0.0.1:0", "--http", "off", "--data", file}, 1},
		{[]string{"--mqtt", "127.0.0.1:0", "--http", "off", "--data", t.TempDir(), "--routes", file + "-not-there"}, exitSettings},
		{[]string{"--mqtt", "127.0.0.1:0", "--http", "off", "--data", t.TempDir(), "--mqtt-users", wrong}, exitSettings},
		{[]string{"--mqtt", "127.0.0.1:0", "--http", "off", "--data", t.TempDir(), "--mqtt-acl", wrong}, exitSettings},
		{[]string{"--version"}, 0},
	} {
		var said strings.Builder
		if code := run(c.args, nil, io.Discard, &said); code != c.code {
			t.Errorf("%v: exit code %d, want %d\n%s", c.args, code, c.code, said.String())
		}
	}
}

// TestRoutesCommand: weir-edge routes test says where a message goes, and why it
// stays.
func TestRoutesCommand(t *testing.T) {
	dir := t.TempDir()
	file, config := filepath.Join(dir, "routes.yaml"), filepath.Join(dir, "weir-edge.yaml")
	write(t, file, "routes:\n  - {filter: plant/#, topic: plants, key: '{2}'}\n  - {filter: plant/x, topic: never}\n  - {filter: debug/#, drop: true}\n")
	write(t, config, "quota: 1073741824\nroutes: "+file+"\n")
	for _, c := range []struct {
		args, out, errs string
		code            int
	}{
		{"test --routes " + file + " plant/7", "topic     plants\nkey       7", "route 2 (plant/x) can never match", 0},
		{"test --config " + config + " --client c --gateway-id g plant/7", "weir.gateway: g", "", 0},
		{"test --routes " + file + " debug/7", "route     3", "stay on the gateway: the route says drop", 1},
		{"test sensors/7", "topic     sensors", "", 0},
		{"test --routes " + config + " x", "", "unknown key", 1},
		{"test", "", "takes one MQTT topic", 1},
		{"tset x", "", "weir-edge routes test TOPIC", 1},
		{"test --qos 3 x", "", "--qos 3", 1},
		{"--help", "weir-edge routes test [flags] TOPIC", "", 0},
	} {
		var out, errs strings.Builder
		code := run(append([]string{"routes"}, strings.Fields(c.args)...), nil, &out, &errs)
		if code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.errs) {
			t.Errorf("%s: exit %d\n%s%s", c.args, code, &out, &errs)
		}
	}
}

func write(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFromMosquitto: what the page for users of mosquitto says is so: its configuration is
// one that works, and what its table names are flags.
func TestFromMosquitto(t *testing.T) {
	s, err := parse([]string{"--config", "../../configs/from-mosquitto/weir-edge.yaml"}, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.gateway != "pump-house-3" || s.mqtt != ":1883" || s.acl != "/etc/mosquitto/acl" {
		t.Errorf("%+v", s)
	}
	page, err := os.ReadFile("../../configs/from-mosquitto/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var help strings.Builder
	if _, err := parse([]string{"--help"}, nil, &help); !errors.Is(err, configs.ErrDone) {
		t.Fatal(err)
	}
	named := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z-]+)[:`]").FindAllStringSubmatch(cells[2], -1) {
			named++
			if !regexp.MustCompile(`--` + m[1] + `[\s[]`).MatchString(help.String()) {
				t.Errorf("there is no flag --%s", m[1])
			}
		}
	}
	if named < 15 {
		t.Errorf("the table names %d flags", named)
	}
}
