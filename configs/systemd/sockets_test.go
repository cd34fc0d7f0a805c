package systemd

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPassedSockets runs this test again as a daemon that gets sockets, and as one that
// gets a file.
func TestPassedSockets(t *testing.T) {
	if os.Getenv("WEIR_TEST_DAEMON") != "" {
		all, err := Sockets()
		var got []string
		for _, s := range all {
			kind := "TCP"
			if s.Packet != nil {
				kind = "UDP"
			}
			got = append(got, s.Name+" "+kind)
		}
		again, _ := Sockets()
		t.Logf("got %s, error %v, again %d", strings.Join(got, ", "), err, len(again))
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tcp, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := c.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	plain, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for _, x := range []struct {
		third *os.File
		count string
		want  string
	}{
		{nil, "2", "got kafka TCP, sync UDP, error <nil>, again 0"},
		{plain, "3", `got , error socket "odd" of the service manager is neither TCP nor UDP`},
	} {
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestPassedSockets$' -test.v`, os.Args[0])
		cmd.Env = append(os.Environ(), "WEIR_TEST_DAEMON=1", "LISTEN_FDS="+x.count, "LISTEN_FDNAMES=kafka:sync:odd")
		cmd.ExtraFiles = []*os.File{tcp, udp}
		if x.third != nil {
			cmd.ExtraFiles = append(cmd.ExtraFiles, x.third)
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), x.want) {
			t.Errorf("%s, %v", out, err)
		}
	}
	t.Setenv("LISTEN_PID", "1") // those of a parent
	t.Setenv("LISTEN_FDS", "1")
	if all, err := Sockets(); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
}
