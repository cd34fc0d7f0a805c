package edge

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/edge/mqtt"
)

// userLine is a line of a users file, for password x.
func userLine(name string) string {
	return name + ":$6$c2FsdA==$6eVdMq4I5n/QFfgZ0/M9n4vpSI7CRVQSApIGU+7jLnaJc6uSeeYJVVj+vSVOhyOXs0nStcL5iykHFunAzR5sag==\n"
}

// TestReload: each file counts by itself; what is wrong changes nothing, and the log
// says what has changed.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	put := func(name, body string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var lines bytes.Buffer
	e, err := Open(Options{Data: filepath.Join(dir, "data"), Gateway: "gw-1", MQTT: Off, MQTTS: Off, HTTP: Off, Reserve: -1,
		Users: put("users", userLine("ann")+userLine("bob")), ACL: put("acl", "topic read a\n"),
		Routes: put("routes", "routes: [{filter: a, topic: one}, {filter: b, topic: two}, {filter: b, topic: never}]"),
		Log:    slog.New(slog.NewTextHandler(&lines, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	says := func(what string) {
		t.Helper()
		if !strings.Contains(lines.String(), what) {
			t.Errorf("no %q in\n%s", what, &lines)
		}
		lines.Reset()
	}
	goes := func(topic string) string {
		to, _ := e.backend.route(*e.backend.routes.Load(), &mqtt.Message{Topic: topic, QoS: 1})
		return to.Topic
	}
	from := byte(0)
	known := func(name string) bool {
		from++ // a wrong password costs its address a pause
		peer := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, from}), 1000))
		return e.users.Authenticate(t.Context(), mqtt.Connect{Peer: peer, Username: name, HasUsername: true, Password: []byte("x")}) == nil
	}
	says("route 3 (b) can never match")
	if goes("a") != "one" || !e.acl.Load().MayRead("c", "", "a") || !known("bob") {
		t.Fatal("what was opened does not count")
	}

	put("users", userLine("ann"))
	put("acl", "nonsense")
	put("routes", "routes: [{filter: b, topic: two}, {filter: a, topic: other}, {filter: b, topic: never}]")
	e.Reload()
	text := lines.String()
	says("added=0 changed=0 removed=1 connections_ended=0")
	for _, what := range []string{"level=ERROR msg=\"ACL not read again", "line 1", "routes=3 added=1 removed=1 order_changed=false"} {
		if !strings.Contains(text, what) {
			t.Errorf("no %q in\n%s", what, text)
		}
	}
	if goes("a") != "other" || !e.acl.Load().MayRead("c", "", "a") || known("bob") || !known("ann") {
		t.Error("what was read again does not count, or what was wrong does")
	}

	put("users", "nonsense")
	put("acl", "topic read b\n")
	put("routes", "routes: [{filter: a, topic: other}, {filter: b, topic: two}, {filter: b, topic: never}]")
	e.Reload()
	text = lines.String()
	says("level=ERROR msg=\"users not read again")
	for _, what := range []string{"lines_added=1 lines_removed=1", "routes=3 added=0 removed=0 order_changed=true"} {
		if !strings.Contains(text, what) {
			t.Errorf("no %q in\n%s", what, text)
		}
	}
	put("routes", "routes: [{filter: a/#/b, topic: x}]")
	e.Reload()
	says("level=ERROR msg=\"routes not read again")
	if goes("a") != "other" || e.acl.Load().MayRead("c", "", "a") || !known("ann") {
		t.Error("what was read again does not count, or what was wrong does")
	}
}
