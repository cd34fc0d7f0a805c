package mysql

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// proxy stands between a bucket and a real server. It knows where a command
// begins and ends, so that it can lose it, lose the answer to it, or answer
// itself, which shows what no server does on demand.
type proxy struct {
	listener net.Listener
	server   string // address

	mu    sync.Mutex
	rules []rule         // guarded by mu
	seen  []string       // guarded by mu: the commands that arrived as a whole
	conns []*net.TCPConn // guarded by mu: to the client
	wg    sync.WaitGroup
}

// rule says what is done with the commands that begin with a text, in turn:
// each of do is used once, then the commands pass.
type rule struct {
	command string
	do      []action
}

type action int

const (
	pass       action = iota
	loseBefore        // the connection breaks before the server gets the command
	loseHalf          // the connection breaks when the server has half of the command
	loseAfter         // the connection breaks when the server has answered
	hang              // the server gets the command, the client no answer

	refuse action = 1000 // refuse + n: the server never sees the command, the client gets error n
)

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, server: server}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

// url returns the URL of a bucket with the proxy in the place of the server.
func (p *proxy) url(direct string) string {
	return strings.Replace(direct, p.server, p.listener.Addr().String(), 1)
}

// script sets what is done from now on, and forgets what was seen.
func (p *proxy) script(rules ...rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.seen = rules, nil
}

// count returns how many commands arrived that begin with a text.
func (p *proxy) count(command string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, seen := range p.seen {
		if strings.HasPrefix(seen, command) {
			n++
		}
	}
	return n
}

// cut breaks all connections at once, the way of a machine that restarts.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		conn.SetLinger(0)
		conn.Close()
	}
	p.conns = nil
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, client.(*net.TCPConn))
		p.mu.Unlock()
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	l := &link{client: client, server: server}
	p.wg.Go(l.answers)
	defer server.Close()
	for {
		packet, err := readPacket(client)
		if err != nil || !p.command(l, packet) {
			return
		}
	}
}

// command handles one packet of the client and reports whether the connection
// goes on.
func (p *proxy) command(l *link, packet []byte) bool {
	todo := pass
	if packet[3] == 0 { // the first packet of an exchange, so not of the login
		todo = p.next(describe(packet[4:]))
	}
	switch {
	case todo == loseBefore:
		return false
	case todo == loseHalf:
		l.server.Write(packet[:len(packet)/2])
		return false
	case todo >= refuse:
		_, err := l.client.Write(errorPacket(uint16(todo - refuse)))
		return err == nil
	}
	l.set(todo)
	_, err := l.server.Write(packet)
	return err == nil
}

func (p *proxy) next(command string) action {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, command)
	i := slices.IndexFunc(p.rules, func(r rule) bool { return strings.HasPrefix(command, r.command) })
	if i < 0 || len(p.rules[i].do) == 0 {
		return pass
	}
	todo := p.rules[i].do[0]
	p.rules[i].do = p.rules[i].do[1:]
	return todo
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	mu             sync.Mutex
	mode           action // guarded by mu: what becomes of answers
}

func (l *link) set(mode action) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mode = mode
}

func (l *link) answers() {
	defer l.client.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buffer)
		if err != nil {
			return
		}
		l.mu.Lock()
		mode := l.mode
		l.mu.Unlock()
		switch mode {
		case loseAfter:
			return
		case hang:
			continue
		}
		if _, err := l.client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// readPacket reads a packet with its header: three bytes of length, one of its
// number in the exchange.
func readPacket(r io.Reader) ([]byte, error) {
	packet := make([]byte, 4)
	if _, err := io.ReadFull(r, packet); err != nil {
		return nil, err
	}
	packet = append(packet, make([]byte, int(packet[0])|int(packet[1])<<8|int(packet[2])<<16)...)
	_, err := io.ReadFull(r, packet[4:])
	return packet, err
}

func describe(command []byte) string {
	switch command[0] {
	case 0x03: // COM_QUERY
		return string(command[1:])
	case 0x16: // COM_STMT_PREPARE
		return "PREPARE"
	case 0x17: // COM_STMT_EXECUTE: the only statement that is prepared
		return "EXECUTE"
	}
	return fmt.Sprintf("command %#x", command[0])
}

func errorPacket(number uint16) []byte {
	body := append(binary.LittleEndian.AppendUint16([]byte{0xff}, number), "#HY000as told"...)
	return append([]byte{byte(len(body)), 0, 0, 1}, body...)
}
