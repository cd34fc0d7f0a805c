package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// needs finds a program. Without it the test is skipped, or fails where the
// environment promises that it is there.
func needs(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
		t.Fatalf("%s is not installed, and WEIR_REQUIRE_SERVICES=1", program)
	}
	t.Skipf("SKIPPED, NOT TESTED: %s is not installed (Debian: mosquitto-clients)", program)
	return ""
}

// TestMosquittoClients: the clients that everyone has, every version, every
// QoS, retained, will, and a wrong password.
func TestMosquittoClients(t *testing.T) {
	pub, sub := needs(t, "mosquitto_pub"), needs(t, "mosquitto_sub")
	s := start(t, Options{Authenticate: func(_ context.Context, c Connect) error {
		if c.Username != "ann" || string(c.Password) != "secret" {
			return ErrBadCredentials
		}
		return nil
	}})
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	command := func(program, password string, args ...string) *exec.Cmd {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		t.Cleanup(cancel)
		args = append([]string{"-h", host, "-p", port, "-u", "ann", "-P", password}, args...)
		return exec.CommandContext(ctx, program, args...)
	}
	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		for qos := range 3 {
			t.Run(fmt.Sprintf("%s/qos%d", version, qos), func(t *testing.T) {
				q := fmt.Sprint(qos)
				topic := "m/" + version + "/" + q
				// Retained: the subscriber may come first or last.
				var lines []string
				for i := range 20 {
					lines = append(lines, fmt.Sprintf("line-%d", i))
				}
				send := command(pub, "secret", "-V", version, "-q", q, "-r", "-t", topic, "-l")
				send.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
				if out, err := send.CombinedOutput(); err != nil {
					t.Fatalf("mosquitto_pub: %v: %s", err, out)
				}
				out, err := command(sub, "secret", "-V", version, "-q", q, "-t", "m/#", "-t", topic, "-C", "1", "-F", "%t %p %r", "--retained-only", "-T", "m/+/nothing").CombinedOutput()
				if err != nil || !bytes.Contains(out, []byte("line-19 1")) {
					t.Fatalf("mosquitto_sub: %v: %s", err, out)
				}
			})
		}
	}
	n := 0
	for _, m := range s.backend.messages {
		if strings.HasPrefix(m.Topic, "m/") {
			if want := fmt.Sprintf("line-%d", n%20); string(m.Payload) != want {
				t.Fatalf("message %d is %s, want %s", n, m.Payload, want)
			}
			n++
		}
	}
	if n != 9*20 {
		t.Fatalf("%d messages stored", n)
	}
	if out, err := command(pub, "wrong", "-t", "a", "-m", "x").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("bad user name or password")) {
		t.Fatalf("wrong password: %v: %s", err, out)
	}
}
