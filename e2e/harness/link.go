package harness

import (
	"errors"
	"net"
	"sync"
)

// Link is the network between gateways and the cloud: a UDP relay that can be cut.
// While it is cut, packets from either side are lost.
type Link struct {
	conn   *net.UDPConn // where gateways send to
	mu     sync.Mutex   // guards what follows
	target *net.UDPAddr
	cut    bool
	ways   map[string]*net.UDPConn // by the gateway's address: its socket towards the cloud
	wg     sync.WaitGroup
}

// NewLink opens a relay on a free loopback port to a cloud's sync address.
func NewLink(target string) (*Link, error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	l := &Link{conn: conn, ways: make(map[string]*net.UDPConn)}
	if err := l.Retarget(target); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	l.wg.Go(l.up)
	return l, nil
}

// Addr is what gateways dial.
func (l *Link) Addr() string { return l.conn.LocalAddr().String() }

// Retarget sends new traffic to another address.
func (l *Link) Retarget(target string) error {
	addr, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = addr
	l.dropWays()
	return nil
}

// Cut interrupts the link; Heal restores it.
func (l *Link) Cut()  { l.set(true) }
func (l *Link) Heal() { l.set(false) }

func (l *Link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
}

// Close ends the relay.
func (l *Link) Close() error {
	err := l.conn.Close()
	l.mu.Lock()
	l.dropWays()
	l.mu.Unlock()
	l.wg.Wait()
	return err
}

// dropWays is called with mu held.
func (l *Link) dropWays() {
	for from, way := range l.ways {
		way.Close() // its goroutine ends
		delete(l.ways, from)
	}
}

// up carries what gateways send.
func (l *Link) up() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := l.conn.ReadFromUDP(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier send
		}
		if way := l.way(from); way != nil {
			_, _ = way.Write(buf[:n]) // a relay loses what it cannot send
		}
	}
}

// way returns the socket towards the cloud for one gateway, nil while cut.
func (l *Link) way(from *net.UDPAddr) *net.UDPConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil
	}
	if way, ok := l.ways[from.String()]; ok {
		return way
	}
	way, err := net.DialUDP("udp", nil, l.target)
	if err != nil {
		return nil
	}
	l.ways[from.String()] = way
	l.wg.Go(func() { l.down(way, from) })
	return way
}

// down carries what the cloud sends to one gateway.
func (l *Link) down(way *net.UDPConn, to *net.UDPAddr) {
	buf := make([]byte, 64<<10)
	for {
		n, err := way.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // no process listens at the moment
		}
		l.mu.Lock()
		cut := l.cut
		l.mu.Unlock()
		if !cut {
			_, _ = l.conn.WriteToUDP(buf[:n], to)
		}
	}
}
