package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/page"
)

// listenHTTP opens the listener of the admin port.
func (n *Node) listenHTTP() (net.Listener, error) {
	l, err := n.o.Sockets.Listen(cluster.HTTP, n.o.HTTP.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on --http: %w", err)
	}
	n.closers = append(n.closers, ignoreClosed(l.Close))
	n.self.Addresses.Add(cluster.HTTP, "", n.advertised(l.Addr()))
	talk := talkHTTP
	if n.o.HTTP.TLSCert != "" {
		talk = inTLS(talk)
	}
	n.askSelf("http", l.Addr(), talk)
	n.adminPort = admin.Limit(l, "http", n.conns)
	n.metrics.Door(measure.Door{Name: "http", Counts: n.adminPort.Counts})
	if n.o.HTTP.TLSCert == "" {
		return n.adminPort, nil
	}
	certificates, err := admin.Certificates(n.o.HTTP.TLSCert, n.o.HTTP.TLSKey, n.o.Log)
	if err != nil {
		return nil, err
	}
	n.certificates = append(n.certificates, certificates)
	return tls.NewListener(n.adminPort, certificates.TLS()), nil
}

// openConsole opens the door of the admin port.
func (n *Node) openConsole(listener net.Listener) {
	own, made, err := admin.OwnToken(n.o.Data)
	switch {
	case err != nil:
		n.o.Log.Warn("the admin token of this node can be neither read nor written: weirctl needs another credential", "err", err)
	case made:
		n.o.Log.Info("admin token written: weirctl on this machine finds it", "file", filepath.Join(n.o.Data, admin.File))
	}
	n.guard = admin.New(admin.Options{
		Service: "weir-cloud", Hosts: n.names(), Own: own, OwnName: ownName(n.o.Node), Lookup: n.administrator,
		Elsewhere: console.Elsewhere(n.broker, n.forward), Anonymous: n.o.HTTP.Anonymous, Traffic: n.adminPort.Traffic(), Log: n.o.Log,
	})
	n.metrics.NewGauge(`weir_http_refused_total{reason="credential"}`, func() float64 { refused, _ := n.guard.Refused(); return float64(refused) })
	n.metrics.NewGauge(`weir_http_refused_total{reason="host"}`, func() float64 { _, refused := n.guard.Refused(); return float64(refused) })
	handler := console.New(console.Options{Guard: n.guard, Broker: n.broker, Fleet: n.fleet, Users: n.users, Quotas: n.quotas,
		Drop: n.drop, Role: n.Role, Metrics: n.metrics, CloseMetrics: n.o.HTTP.CloseMetrics,
		State: n.state, Nodes: n.nodes, Shards: n.allShards, Late: n.late, Recent: n.recent, Forward: n.forward, Records: n.records, Ask: n.askAdmin, Removed: n.adminRemoved, Split: n.split, SplitState: n.splitState, RevokeNode: n.revokeNode, ResetNode: n.resetNode, NodeToken: n.nodeToken, Missing: func() cluster.Roles { return n.manager.Missing() }})
	page.Register(n.guard)
	n.http = admin.Server(n.use.handler(handler), n.o.Log)
	n.doors = append(n.doors, door{"http", func() error {
		if err := n.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}})
	n.closers = append(n.closers, n.http.Close)
}

// adminRemoved gives this node a new token of its own if the old one was removed.
func (n *Node) adminRemoved(ctx context.Context, name string) error {
	users := n.users()
	if name != ownName(n.o.Node) || users == nil {
		return nil
	}
	return n.registerOwn(ctx, users)
}

// ownName is the name of a node's own credential.
func ownName(node string) string { return "node:" + node }

// names returns the names under which the admin port may be used.
func (n *Node) names() []string {
	names := append([]string{n.o.Advertise, n.o.HTTP.Listen, n.self.Address(cluster.HTTP)}, n.o.HTTP.Hosts...)
	for _, door := range []string{cluster.Kafka, cluster.AMQP} {
		for _, address := range n.self.Addresses[door] {
			names = append(names, address)
		}
	}
	return names
}

// administrator returns the caller that an admin token belongs to. While this node does
// not own the shard, it knows only its own token.
func (n *Node) administrator(hash admin.Hash) (admin.Caller, error) {
	if users := n.users(); users != nil {
		return users.Administrator(hash)
	}
	return admin.Caller{}, admin.ErrElsewhere
}

// welcomeAdmins adds the administrators that a new owner brings: itself, and those of
// weirctl admin reset.
func (n *Node) welcomeAdmins(ctx context.Context, users *auth.Auth, level int) {
	if level < auth.AdminLevel {
		n.o.Log.Info("the bucket's format level has no administrators: the admin token of a node is valid at that node only, until weirctl upgrade is run", "format_level", level)
		return
	}
	key, err := n.ca.Derive(auth.ResetLabel, 32)
	if err == nil {
		err = users.TakeResets(ctx, n.bucket, key, n.o.Log)
	}
	if n.guard != nil {
		err = errors.Join(err, n.registerOwn(ctx, users))
	}
	if err != nil && ctx.Err() == nil {
		n.o.Log.Warn("administrators not updated: the next owner tries again", "err", err)
	}
}

// registerOwn makes this node's own token known to the rest of the cluster, so that it
// is valid there too. If it was removed, it is replaced: its holders lose access.
func (n *Node) registerOwn(ctx context.Context, users *auth.Auth) error {
	hash := admin.HashOf(n.guard.Own())
	if _, err := users.Administrator(hash); err == nil {
		return nil
	}
	if users.Ended(hash) {
		token, err := admin.RenewToken(n.o.Data)
		if err != nil {
			return err
		}
		n.guard.SetOwn(token)
		hash = admin.HashOf(token)
		n.o.Log.Info("admin token replaced: the former one was removed from the cluster", "file", filepath.Join(n.o.Data, admin.File))
	}
	return users.SetAdmin(ctx, ownName(n.o.Node), admin.Administer, hash, time.Now())
}
