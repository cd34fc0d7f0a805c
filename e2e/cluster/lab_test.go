package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Addresses of the lab. Clients, gateways and the server of the bucket are in this
// process's namespace, each node is in one of its own.
const (
	clientsIP = "10.77.0.254"
	bucketIP  = "10.77.0.100"
	nowhere   = "02:00:00:00:00:01" // an Ethernet address that nothing has
)

// lab is a bridge with machines.
type lab struct {
	t     *testing.T
	hosts []host
}

// host is a machine for one node.
type host struct {
	namespace string
	ip        string
}

// newLab builds the network, which is removed at the end of the test.
func newLab(t *testing.T, hosts int) *lab {
	t.Helper()
	if os.Getenv(inside) == "" {
		if os.Getenv("WEIR_REQUIRE_SERVICES") != "" {
			t.Fatal("no network namespace: root and unshare (apt-get install util-linux) are needed")
		}
		t.Skip("SKIPPED: network namespaces cannot be made here (root and unshare are needed)")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Fatalf("ip is not installed: apt-get install iproute2")
	}
	l := &lab{t: t}
	l.ip("link", "set", "lo", "up")
	l.ip("link", "add", "lab", "type", "bridge")
	t.Cleanup(func() { l.ip("link", "del", "lab") })
	for _, address := range []string{clientsIP, bucketIP} {
		l.ip("addr", "add", address+"/24", "dev", "lab")
	}
	l.ip("link", "set", "lab", "up")
	for i := range hosts {
		h := host{fmt.Sprintf("weir-%d-%d", os.Getpid(), i+1), fmt.Sprintf("10.77.0.%d", i+1)}
		port := fmt.Sprintf("port%d", i+1)
		l.ip("netns", "add", h.namespace)
		t.Cleanup(func() { l.ip("netns", "del", h.namespace) })
		l.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.namespace)
		t.Cleanup(func() { l.ip("link", "del", port) }) // with the namespace it would go some time later
		l.ip("link", "set", port, "master", "lab", "up")
		l.ip("-n", h.namespace, "addr", "add", h.ip+"/24", "dev", "eth0")
		l.ip("-n", h.namespace, "link", "set", "eth0", "up")
		l.ip("-n", h.namespace, "link", "set", "lo", "up")
		l.hosts = append(l.hosts, h)
	}
	return l
}

func (l *lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Errorf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// drop loses everything that a host sends to an address, without an error that the
// sender could see.
func (l *lab) drop(from host, to string) {
	l.ip("-n", from.namespace, "neigh", "replace", to, "lladdr", nowhere, "dev", "eth0", "nud", "permanent")
}

// heal undoes drop.
func (l *lab) heal(from host, to string) {
	l.ip("-n", from.namespace, "neigh", "del", to, "dev", "eth0")
}
