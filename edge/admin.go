package edge

import (
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/budget"
)

// HTTP configures the admin port, besides its address.
type HTTP struct {
	Hosts       []string // further host names under which clients may address it
	Certificate string   // PEM files; with both, the listener speaks TLS
	Key         string
	Anonymous   bool // read requests need no credential
}

// openHTTP makes the server of the admin port. A damaged credential file does not
// stop the gateway from serving devices.
func (e *Edge) openHTTP(l net.Listener) error {
	var listener net.Listener = admin.Limit(l, "http", budget.NewConns(budget.ConnsOptions{Log: e.o.Log}))
	if e.o.Admin.Certificate != "" {
		certificates, err := admin.Certificates(e.o.Admin.Certificate, e.o.Admin.Key, e.o.Log)
		if err != nil {
			return err
		}
		e.certificates = append(e.certificates, certificates)
		listener = tls.NewListener(listener, certificates.TLS())
	}
	own, made, err := admin.OwnToken(e.o.Data)
	switch {
	case err != nil:
		e.o.Log.Warn("the admin token of this gateway can be neither read nor written: dead letters and sessions cannot be read over --http", "err", err)
	case made:
		e.o.Log.Info("admin token written: --http needs it for dead letters and sessions", "file", filepath.Join(e.o.Data, admin.File))
	}
	hosts := append([]string{e.o.HTTP}, e.o.Admin.Hosts...)
	local := l.Addr().(*net.TCPAddr).IP.IsLoopback()
	if name, err := os.Hostname(); err == nil && !local {
		hosts = append(hosts, name)
	}
	guard := admin.New(admin.Options{Service: "weir-edge", Hosts: hosts, Own: own, Anonymous: e.o.Admin.Anonymous, Log: e.o.Log})
	e.metrics.NewGauge(`weir_http_refused_total{reason="credential"}`, func() float64 { n, _ := guard.Refused(); return float64(n) })
	e.metrics.NewGauge(`weir_http_refused_total{reason="host"}`, func() float64 { _, n := guard.Refused(); return float64(n) })
	e.http = admin.Server(e.status(guard, local), e.o.Log)
	e.listeners["http"] = listener
	e.closers = append(e.closers, e.http.Close)
	return nil
}

// status is what the admin port answers. This machine may read health and metrics
// without a credential; other machines may if the port is anonymous.
func (e *Edge) status(guard *admin.Guard, local bool) http.Handler {
	open := admin.Read
	if local {
		open = admin.Open
	}
	guard.Handle(open, "GET /healthz", e.healthz)
	guard.Handle(open, "GET /readyz", e.readyz)
	guard.Handle(open, "GET /metrics", e.writeMetrics)
	guard.Handle(admin.Read, "GET /dead-letters", e.deadLetters)
	guard.Handle(admin.Read, "GET /sessions", e.sessions)
	return guard
}
