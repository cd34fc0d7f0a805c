package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/weirmq/weir/sync/join"
)

// ErrUnknownVerb means that the node's version does not know this call.
var ErrUnknownVerb = errors.New("node does not know this call")

// errRefused means that the node has answered, and has not performed the request.
var errRefused = errors.New("request is refused")

// dialTime bounds the time to connect, TLS handshake included.
const dialTime = 5 * time.Second

// Client asks other nodes. It keeps one connection to each, and makes a new one after
// a node has not answered. It may be used by many goroutines.
type Client struct {
	// Dial, if set before the first call, replaces net.Dialer.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	identity *join.NodeIdentity

	mu      sync.Mutex
	links   map[string]*link        // guarded by mu; by name and address
	streams map[string]*ownerStream // guarded by mu; likewise
}

// NewClient makes a client that presents a certificate of this node.
func NewClient(identity *join.NodeIdentity) *Client {
	return &Client{identity: identity, links: make(map[string]*link), streams: make(map[string]*ownerStream)}
}

// Refused reports whether an error means that the node's host answered but nothing
// listens at its address, or that a firewall said so.
func Refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// Close ends every connection. The client may be used again.
func (c *Client) Close() error {
	c.mu.Lock()
	links, streams := c.links, c.streams
	c.links, c.streams = make(map[string]*link), make(map[string]*ownerStream)
	c.mu.Unlock()
	for _, l := range links {
		l.close()
	}
	for _, s := range streams {
		s.close()
		<-s.done
	}
	return nil
}

// Expel ends the connections to nodes that are not admitted any more, and what is under way
// on them.
func (c *Client) Expel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, l := range c.links {
		if l.refused() {
			delete(c.links, key)
			l.close()
		}
	}
	for _, s := range c.streams {
		if s.refused() {
			s.close() // it forgets itself
		}
	}
}

// get returns the body of the answer, which may have at most most bytes.
func (c *Client) get(ctx context.Context, node, address, path string, most int64) ([]byte, error) {
	return c.ask(ctx, "", http.MethodGet, node, address, path, nil, most)
}

// post sends a question over a link of its own kind, so that what goes over other links
// does not wait behind it.
func (c *Client) post(ctx context.Context, kind, node, address, path string, question []byte, most int64) ([]byte, error) {
	return c.ask(ctx, kind, http.MethodPost, node, address, path, question, most)
}

// ask sends a question and returns the body of the answer.
func (c *Client) ask(ctx context.Context, kind, method, node, address, path string, question []byte, most int64) ([]byte, error) {
	key := node + "\n" + address
	if kind != "" {
		key += "\n" + kind
	}
	l := c.link(key, node, address)
	body, err := l.ask(ctx, method, path, question, most)
	for errors.Is(err, errDropped) && ctx.Err() == nil { // nothing was sent: another question has failed on an older connection
		l = c.link(key, node, address)
		body, err = l.ask(ctx, method, path, question, most)
	}
	if err == nil || errors.Is(err, ErrUnknownVerb) {
		return body, err
	}
	// A node that has answered is well, and so may be one whose answer nobody wants any
	// more: others wait for its answers on this link.
	if !errors.Is(err, errRefused) && ctx.Err() != context.Canceled {
		c.drop(key, l)
	}
	return nil, fmt.Errorf("ask node %q at %s: %w", node, address, err)
}

func (c *Client) link(key, node, address string) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.links[key]
	if l == nil {
		l = newLink(address, c.identity.ClientTLS(node))
		if c.Dial != nil {
			l.open = c.Dial
		}
		c.links[key] = l
	}
	return l
}

// errDropped means that a link was given up before there was a connection.
var errDropped = errors.New("the link to the node is given up")

// drop forgets a link on which no answer came: TCP may repeat what was sent on it for
// minutes after the network is back.
func (c *Client) drop(key string, l *link) {
	c.mu.Lock()
	if c.links[key] == l {
		delete(c.links, key)
	}
	c.mu.Unlock()
	l.cancel(errDropped)
	l.close()
}

// link is the connection to one node.
type link struct {
	open      func(ctx context.Context, address string) (net.Conn, error)
	http      *http.Client
	transport *http.Transport
	verify    func(tls.ConnectionState) error // whether the handshake may have succeeded
	ctx       context.Context                 // ended by close, which also ends dialling
	cancel    context.CancelCauseFunc

	mu    sync.Mutex
	conns map[*opened]struct{} // that are not closed; guarded by mu
}

// opened is an opened connection, without TLS from net/http's point of view.
type opened struct {
	net.Conn
	l     *link
	raw   net.Conn // below TLS
	state tls.ConnectionState
}

func (o *opened) Close() error {
	o.l.mu.Lock()
	delete(o.l.conns, o)
	o.l.mu.Unlock()
	return o.Conn.Close()
}

func newLink(address string, config *tls.Config) *link {
	l := &link{verify: config.VerifyConnection, conns: make(map[*opened]struct{}), open: func(ctx context.Context, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.transport = &http.Transport{
		Protocols:       new(http.Protocols),
		IdleConnTimeout: idleTime / 2, // shorter than the server's
		HTTP2:           &http.HTTP2Config{SendPingTimeout: streamPing, PingTimeout: streamGrace, MaxReceiveBufferPerStream: maxUnread},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := l.dial(ctx, address, config)
			if dropped := context.Cause(l.ctx); err != nil && errors.Is(dropped, errDropped) {
				return nil, dropped
			}
			return c, err
		},
	}
	// TLS is below what net/http sees, as in Server.
	l.transport.Protocols.SetUnencryptedHTTP2(true)
	l.http = &http.Client{Transport: l.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return l
}

func (l *link) dial(ctx context.Context, address string, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	raw, err := l.open(ctx, address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(raw, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil { // close came too early to see this connection
		raw.Close()
		return nil, l.ctx.Err()
	}
	state := secure.ConnectionState()
	if err := l.verify(state); err != nil { // once more: before, Expel has not seen it
		raw.Close()
		return nil, err
	}
	c := &opened{secure, l, raw, state}
	l.conns[c] = struct{}{}
	return c, nil
}

// refused reports whether a handshake with the other end would fail now.
func (l *link) refused() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if l.verify(c.state) != nil {
			return true
		}
	}
	return false
}

func (l *link) ask(ctx context.Context, method, path string, question []byte, most int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	res, err := l.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	switch {
	case res.StatusCode == http.StatusNotFound:
		return nil, ErrUnknownVerb
	case err != nil:
		return nil, err
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: status %s: %s", errRefused, res.Status, bytes.TrimSpace(body[:min(len(body), maxRefusal)]))
	case int64(len(body)) > most:
		return nil, fmt.Errorf("%w: it is longer than %d bytes", errAnswer, most)
	}
	return body, nil
}

func (l *link) close() {
	l.cancel(nil)
	l.mu.Lock()
	for c := range l.conns {
		c.raw.Close() // net/http notices, and closes c
	}
	l.mu.Unlock()
	l.transport.CloseIdleConnections()
}
