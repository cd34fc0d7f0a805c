package admin

import (
	"net"
	"net/netip"
	"strings"
)

// hosts are the names under which a port may be used. A page in a browser can make a
// name of its own resolve to this port (DNS rebinding), but it cannot make the browser
// send another name, or an address, as Host.
type hosts map[string]bool

// newHosts accepts names and addresses, with or without a port.
func newHosts(names []string) hosts {
	h := make(hosts)
	for _, name := range names {
		if name = hostOf(name); name != "" {
			h[name] = true
		}
	}
	return h
}

// hostOf returns the host in "host", "host:port" or "[::1]:port".
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	return strings.ToLower(strings.TrimSuffix(address, "."))
}

// allow reports whether a request's Host is one of the port's. A request without a Host
// does not come from a browser.
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
