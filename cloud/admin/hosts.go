package admin

import (
	"net"
	"net/netip"
	"strings"
)

// hosts are the names under which a port may be asked. A page in a browser can make
// any name of its own lead to this port (DNS rebinding); it cannot make a browser
// send another name than its own, nor an address.
type hosts map[string]bool

// newHosts takes names or addresses, with or without a port.
func newHosts(names []string) hosts {
	h := make(hosts)
	for _, name := range names {
		if name = hostOf(name); name != "" {
			h[name] = true
		}
	}
	return h
}

// hostOf is what names the machine in "host", "host:port", "[::1]:port".
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	return strings.ToLower(strings.TrimSuffix(address, "."))
}

// allow reports whether a request's Host is one of the port's. One without any is
// no browser's.
func (h hosts) allow(host string) bool {
	if host == "" {
		return true
	}
	name := hostOf(host)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") || h[name] {
		return true
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}
