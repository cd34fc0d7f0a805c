package cloud

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/sync/join"
)

// A node checks its own doors like a client on this machine: if an owner's doors hang
// while its bucket answers, everybody would wait for it for ever. It connects from a
// loopback address, whatever address the door has, because connections from there have
// a reserve. A door that refuses the connection works.

// silentFile is a file in the data directory. Its modification time is the last time
// that this node stopped leading because of its doors.
const silentFile = "doors-silent"

// rest is how long the doors have no effect after a shard has changed its owner, or
// after this node has given it up: a client may be making doors hang on purpose.
const rest = 10 * time.Minute

// askSelf adds a TCP listener to the doors that this node checks. talk sends a request,
// and returns when it has the first byte of an answer.
func (n *Node) askSelf(name string, at net.Addr, talk func(context.Context, net.Conn) error) {
	n.own = append(n.own, cluster.Door{Name: name, Ask: func(ctx context.Context) error {
		defer n.use.ask()()
		c, err := dialSelf(ctx, at)
		if err != nil {
			return err
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
		return unheard(ctx, talk(ctx, c))
	}})
}

// inTLS is talk over TLS. It does not verify the certificate: real clients do that.
func inTLS(talk func(context.Context, net.Conn) error) func(context.Context, net.Conn) error {
	return func(ctx context.Context, c net.Conn) error {
		secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		return talk(ctx, secure)
	}
}

// greetTLS begins a handshake and stops when the other end has begun its part. It is
// for a listener that asks for a certificate, which this node does not have.
func greetTLS(ctx context.Context, c net.Conn) error {
	return inTLS(nil)(ctx, &shy{Conn: c})
}

// shy is a connection that ends with the first bytes that arrive.
type shy struct{ net.Conn }

func (s *shy) Read(p []byte) (int, error) {
	_, err := s.Conn.Read(p)
	s.Conn.Close()
	return 0, errors.Join(err, io.EOF)
}

// unheard returns err if nothing came from the other end. It returns nil if something
// came that is no answer: the end of the connection, a TLS alert.
func unheard(ctx context.Context, err error) error {
	var late net.Error
	if err != nil && (ctx.Err() != nil || errors.As(err, &late) && late.Timeout()) {
		return errors.Join(ctx.Err(), err)
	}
	return nil
}

// dialSelf connects to a listener of this node from a loopback address.
func dialSelf(ctx context.Context, at net.Addr) (net.Conn, error) {
	network := at.Network()
	host, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(host)
	own := net.IPv6loopback
	if ip == nil || ip.To4() != nil || ip.IsUnspecified() {
		own = net.IPv4(127, 0, 0, 1)
	}
	if ip == nil || ip.IsUnspecified() {
		host = own.String()
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: own}}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: own}
	}
	return d.DialContext(ctx, network, net.JoinHostPort(host, port))
}

// talkKafka asks for the versions of the API, which needs no login.
func talkKafka(_ context.Context, c net.Conn) error {
	const apiVersions, correlation = 18, 0x57454952
	b := binary.BigEndian.AppendUint32(nil, 10) // of what follows
	b = binary.BigEndian.AppendUint16(b, apiVersions)
	b = binary.BigEndian.AppendUint16(b, 0) // version
	b = binary.BigEndian.AppendUint32(b, correlation)
	b = binary.BigEndian.AppendUint16(b, 0xffff) // no client id
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 8))
	return err
}

// talkAMQP begins a connection: the server answers the header with its first method.
func talkAMQP(_ context.Context, c net.Conn) error {
	header := wire.PrefaceOf091()
	if _, err := c.Write(header[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, wire.FrameOverhead))
	return err
}

// talkHTTP sends any request.
func talkHTTP(_ context.Context, c net.Conn) error {
	req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1/healthz", nil)
	if err != nil {
		return err
	}
	req.Close = true
	if err := req.Write(c); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// askSync adds the sync port to the doors that this node checks: a server answers a
// packet of an unknown QUIC version with the versions that it knows. When thousands of
// gateways come at once, that packet is lost again and again. So a port at which gateways
// get in meanwhile works, too.
func (n *Node) askSync(at net.Addr) {
	n.own = append(n.own, cluster.Door{Name: "sync", Ask: func(ctx context.Context) error {
		before := n.fromGateways()
		c, err := dialSelf(ctx, at)
		if err != nil {
			return err
		}
		defer c.Close()
		for ctx.Err() == nil { // packets get lost under load
			packet, id := unknownQUIC()
			if _, err := c.Write(packet); err != nil {
				return err // nothing listens there
			}
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			answer := make([]byte, 1500)
			size, err := c.Read(answer)
			switch {
			case err == nil && bytes.Contains(answer[:size], id):
				return nil
			case err != nil && unheard(ctx, err) == nil:
				return err
			}
		}
		if n.fromGateways() != before {
			return nil
		}
		return ctx.Err()
	}})
}

// fromGateways counts what has come in at the sync port: connections, record batches and
// requests to join.
func (n *Node) fromGateways() (count int) {
	for _, c := range n.receiver.Counts() {
		count += int(c.Accepted) + int(c.Requests)
	}
	return count
}

// askPeer adds the peer port to the doors that this node checks, like any other node. On a
// busy machine a handshake may take too long: the port works, too, if it serves others
// meanwhile.
func (n *Node) askPeer(at net.Addr, identity *join.NodeIdentity) {
	n.own = append(n.own, cluster.Door{Name: "peer", Ask: func(ctx context.Context) error {
		before := n.peers.served.Load()
		client := peer.NewClient(identity)
		client.Dial = func(ctx context.Context, _ string) (net.Conn, error) { return dialSelf(ctx, at) }
		defer client.Close()
		_, err := client.Ping(ctx, n.o.Node, at.String())
		if n.peers.served.Load() != before {
			return nil
		}
		return err
	}})
}

// unknownQUIC returns the first packet of a session in a version that forces the server
// to name those that it knows (RFC 9000, 6.3), and the client's id in it.
func unknownQUIC() (packet, id []byte) {
	ids := make([]byte, 16)
	rand.Read(ids) // never fails
	id = ids[:8]
	packet = append(packet, 0xc0, 0x0a, 0x0a, 0x0a, 0x0a) // long header, a reserved version
	packet = append(append(packet, 8), ids[8:]...)        // of the server
	packet = append(append(packet, 8), id...)
	return append(packet, make([]byte, 1200-len(packet))...), id // shorter ones are dropped
}

// doorTime is how long a door may be silent: the takeover time, but long enough that a
// busy machine does not look like a hung door.
func (n *Node) doorTime() time.Duration { return max(n.takeover(), time.Second) }

// fit returns an error if this node should not lead a shard now.
func (n *Node) fit(ctx context.Context) error {
	err := cluster.AskDoors(ctx, n.doorTime()/3, n.own)
	if err != nil {
		n.shards.becomeUnfit() // so that nobody waits for this node
	}
	return err
}

// watchDoors returns an error when this node should stop leading because of its
// doors, nil when ctx ends. It is called for each shard, and only one call at a time does
// anything.
func (n *Node) watchDoors(ctx context.Context) error {
	select {
	case n.watching <- struct{}{}:
		defer func() { <-n.watching }()
	case <-ctx.Done():
		return nil
	}
	path := filepath.Join(n.o.Data, silentFile)
	began := time.Now()
	if file, err := os.Stat(path); err != nil || time.Since(file.ModTime()) > rest {
		began = time.Time{}
	}
	control, end, err := answering()
	if err != nil {
		n.o.Log.Warn("this node cannot tell a listener that does not answer from a machine that is too busy", "err", err)
	} else {
		defer end()
	}
	w := cluster.DoorWatch{Takeover: n.doorTime(), Doors: n.own, Control: control, Log: n.o.Log, May: func() bool {
		standby := time.Since(time.Unix(0, n.peers.heard.Load())) < rest
		moved := slices.ContainsFunc(n.shards.all(), func(own *owned) bool { return own.claim.Moved(rest) })
		return standby && time.Since(began) > rest && !moved
	}}
	err = w.Run(ctx)
	if err != nil {
		if failed := os.WriteFile(path, []byte(err.Error()+"\n"), 0o644); failed != nil {
			n.o.Log.Warn("the reason why this node stopped leading is not on its disk: it may lead again too soon", "err", failed)
		}
		return fmt.Errorf("stopped leading: %w", err)
	}
	return nil
}

// answering opens a listener on loopback that does nothing but answer, and returns what asks
// it and what ends it.
func answering() (ask func(context.Context) error, end func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil: // for want of file descriptors
				time.Sleep(10 * time.Millisecond)
				continue
			}
			_, _ = c.Write([]byte{0}) // there is room for it; nobody else knows this listener
			c.Close()
		}
	})
	ask = func(ctx context.Context) error {
		c, err := dialSelf(ctx, l.Addr())
		if err != nil {
			return err
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
		_, err = io.ReadFull(c, make([]byte, 1))
		return err
	}
	return ask, func() { l.Close(); serving.Wait() }, nil
}
