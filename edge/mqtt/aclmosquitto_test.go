package mqtt

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// mosquittoWith starts a mosquitto with an ACL file and returns its address.
func mosquittoWith(t *testing.T, acl string) string {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	program := needs(t, "mosquitto")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "conf")
	body := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nacl_file %s\nuser root\n", port, acl)
	if err := os.WriteFile(conf, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	within(t, func() bool {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	return addr
}

// loginTo connects to a broker that is not a testServer.
func loginTo(t *testing.T, addr, id, user string) *testClient {
	t.Helper()
	nc := dialTCP(t, addr)
	t.Cleanup(func() { nc.Close() })
	c := &testClient{t: t, nc: nc, r: bufio.NewReader(nc), version: 5}
	pk := connectPacket(5, id, true)
	if user != "" {
		pk = userPacket(5, id, user)
	}
	c.send(pk)
	if ack := c.expect(packets.Connack); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	return c
}

// TestACLAsMosquitto: mosquitto answers to the same file as ACL does.
func TestACLAsMosquitto(t *testing.T) {
	const file = sampleACL + "user root\ntopic #\n"
	path := aclFile(t, file)
	addr := mosquittoWith(t, path)
	acl, err := LoadACL(path)
	if err != nil {
		t.Fatal(err)
	}
	root := loginTo(t, addr, "root", "root")
	var id uint16
	for _, who := range [][2]string{{"", "c"}, {"ann", "c"}, {"ann", "d"}, {"bob", "c"}, {"eve", "c"}, {"+", "c"}, {"eve", "#"}, {"ann", "a+b"}} {
		user, client := who[0], who[1]
		c := loginTo(t, addr, client, user)
		for _, topic := range []string{"news", "news/today", "news/secret", "other", "all", "plant/ann/a/b", "plant/ann/key", "orders", "late",
			"two words/1/x", "dev/ann/c/t", "dev/ann/d/t", "dev/ann/c/firmware", "dev/bob/c/t", "dev//c/t"} {
			id++
			c.send(publishPacket(topic, "x", 1, id))
			ack := c.ackOf(packets.Puback, id)
			if write := ack.ReasonCode < 0x80; write != acl.MayPublish(client, user, topic) {
				t.Errorf("%q as %q may write %s for mosquitto: %v", client, user, topic, write)
			}
			if code := c.subscribe(filter(topic, 0))[0]; code >= 0x80 {
				t.Errorf("%q as %q may not subscribe to %s for mosquitto", client, user, topic)
			}
			root.publish(topic, "y", 1, 1)
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			read := false
			for {
				pk, err := c.next(patience)
				if err != nil {
					t.Fatal(err)
				}
				if pk.FixedHeader.Type == packets.Pingresp {
					break
				}
				read = read || pk.FixedHeader.Type == packets.Publish
			}
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 78, Filters: packets.Subscriptions{filter(topic, 0)}})
			c.ackOf(packets.Unsuback, 78)
			if read != acl.MayRead(client, user, topic) {
				t.Errorf("%q as %q may read %s for mosquitto: %v", client, user, topic, read)
			}
		}
		c.disconnect()
	}
}
