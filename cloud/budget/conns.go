package budget

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
)

// ConnsOptions configure Conns. The zero value of a field means its default.
type ConnsOptions struct {
	Total   int          // connections at once, over all listeners; default: 4,096
	Reserve int          // of those, for loopback and for gates with Reserved set; default: a 32nd of Total
	Log     *slog.Logger // default: slog.Default
}

// GateOptions configure a Gate. The zero value of a field means its default.
type GateOptions struct {
	Name       string // of the listener, in log lines
	Max        int    // connections at once; default: 2,048
	PerAddress int    // of those, from one address; default: half of Max
	Strangers  int    // of those, of peers that have not logged in; default: an eighth of Max
	Reserved   bool   // whether its connections may use the reserve of Conns
}

// Conns counts the connections of a process. It may be used by many goroutines.
type Conns struct {
	o ConnsOptions

	mu    sync.Mutex // guards what follows, and the fields of gates and seats
	total int
}

// Gate counts the connections of one listener.
type Gate struct {
	conns *Conns
	o     GateOptions
	full  *Episode
	gives *Episode

	count     GateCounts
	byAddress map[netip.Addr]*visitors
	strangers list.List // of *Seat, oldest first
}

// GateCounts are the connections of one listener: those that are open, and what has
// happened since the start.
type GateCounts struct {
	Open     int    `json:"connections"`
	Accepted uint64 `json:"connections_accepted"`
	Refused  uint64 `json:"connections_refused"`  // because no seat was free
	GaveWay  uint64 `json:"connections_gave_way"` // to newer ones, before their peers had logged in
}

// visitors are the connections from one address.
type visitors struct{ open, strangers int }

// Seat is the place of one connection in the counts.
type Seat struct {
	gate    *Gate
	address netip.Addr
	give    func()
	heard   bool
	place   *list.Element // in Gate.strangers; nil: the peer has logged in, or need not
	left    bool
}

// ErrFull means that no seat is free for a connection.
var ErrFull = errors.New("too many connections")

// NewConns returns a Conns that counts no connections yet.
func NewConns(o ConnsOptions) *Conns {
	o.Total = cmp.Or(o.Total, 4_096)
	o.Reserve = min(cmp.Or(o.Reserve, o.Total/32), o.Total)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Conns{o: o}
}

// Gate adds a listener and returns its Gate.
func (c *Conns) Gate(o GateOptions) *Gate {
	o.Max = cmp.Or(o.Max, 2_048)
	o.PerAddress = cmp.Or(o.PerAddress, max(o.Max/2, 1))
	o.Strangers = cmp.Or(o.Strangers, max(o.Max/8, 1))
	log := c.o.Log.With("listener", o.Name)
	return &Gate{conns: c, o: o, byAddress: make(map[netip.Addr]*visitors),
		full: NewEpisode(EpisodeOptions{
			Begin: "connections are refused: raise the limit if they are wanted, or find out who opens them",
			End:   "connections are no longer refused", Log: log}),
		gives: NewEpisode(EpisodeOptions{
			Begin: "too many connections have not logged in: the oldest ones of the address that has most are closed",
			End:   "connections that have not logged in are within their limit again", Log: log}),
	}
}

// Address returns the address by which peers are told apart: the IP address of a TCP
// or UDP address, or for IPv6 its /64, which one host usually has for itself. All
// other kinds of addresses share the zero Addr.
func Address(a net.Addr) netip.Addr {
	var ip netip.Addr
	switch a := a.(type) {
	case *net.TCPAddr:
		ip = a.AddrPort().Addr()
	case *net.UDPAddr:
		ip = a.AddrPort().Addr()
	default:
		if port, err := netip.ParseAddrPort(a.String()); err == nil {
			ip = port.Addr()
		}
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() && !ip.IsLoopback() {
		net64, _ := ip.Prefix(64) // fits every IPv6 address
		return net64.Addr()
	}
	return ip
}

// Enter takes a seat for a connection from an address (see Address) whose peer has
// not logged in. If the seats for such peers are all taken, or those of the listener,
// one of these peers gives way. It is chosen from the address that has most of them
// (from the newcomer's own, unless another has more): the oldest that has sent
// nothing, else the oldest. It loses its seat, and its give function is called, which
// must close its connection.
//
// Errors: ErrFull, whose text says which limit was met.
func (g *Gate) Enter(from netip.Addr, give func()) (*Seat, error) {
	g.conns.mu.Lock()
	s, gone, err := g.enter(from, give)
	g.conns.mu.Unlock()
	if gone != nil {
		g.gives.Note("address", gone.address, "new_address", from, "limit", g.o.Strangers)
		gone.give()
	}
	if err != nil {
		g.full.Note("address", from, "err", err)
	}
	return s, err
}

func (g *Gate) enter(from netip.Addr, give func()) (s, gone *Seat, err error) {
	c := g.conns
	v := g.byAddress[from]
	if v == nil {
		v = new(visitors)
	}
	most := c.o.Total
	if !from.IsLoopback() && !g.o.Reserved {
		most -= c.o.Reserve
	}
	all, here, total := g.count.Open, v.open, c.total
	if g.strangers.Len() >= g.o.Strangers || all >= g.o.Max || total >= most {
		if gone = g.weakest(from, v.strangers); gone != nil {
			all, total = all-1, total-1
			if gone.address == from {
				here--
			}
		}
	}
	switch {
	case all >= g.o.Max:
		err = fmt.Errorf("%w: %d are open at this listener already", ErrFull, all)
	case here >= g.o.PerAddress:
		err = fmt.Errorf("%w: %d are open from this address already", ErrFull, here)
	case total >= most:
		err = fmt.Errorf("%w: %d are open at all listeners already", ErrFull, total)
	}
	if err != nil {
		g.count.Refused++
		return nil, nil, err
	}
	if gone != nil {
		g.count.GaveWay++
		gone.leave() // v may be forgotten with it: it is put back below
	}
	s = &Seat{gate: g, address: from, give: give}
	s.place = g.strangers.PushBack(s)
	v.open++
	v.strangers++
	g.byAddress[from] = v
	g.count.Open++
	g.count.Accepted++
	c.total++
	return s, gone, nil
}

// weakest returns the stranger that gives way to a newcomer whose address has that
// many strangers, nil if there is no stranger.
func (g *Gate) weakest(from netip.Addr, newcomers int) *Seat {
	busiest := 0
	for _, v := range g.byAddress {
		busiest = max(busiest, v.strangers)
	}
	var oldest *Seat
	for e := g.strangers.Front(); e != nil; e = e.Next() {
		s := e.Value.(*Seat)
		if g.byAddress[s.address].strangers < busiest || newcomers == busiest && s.address != from {
			continue
		}
		if !s.heard {
			return s
		}
		if oldest == nil {
			oldest = s
		}
	}
	return oldest
}

// Heard records that the peer has sent a whole message.
func (s *Seat) Heard() {
	s.gate.conns.mu.Lock()
	defer s.gate.conns.mu.Unlock()
	s.heard = true
}

// Known records that the peer has logged in, or need not. It is no longer a stranger.
func (s *Seat) Known() {
	s.gate.conns.mu.Lock()
	defer s.gate.conns.mu.Unlock()
	s.endStranger()
}

func (s *Seat) endStranger() {
	if s.place == nil || s.left {
		return
	}
	s.gate.strangers.Remove(s.place)
	s.gate.byAddress[s.address].strangers--
	s.place = nil
}

// Leave gives the seat back. Only the first call counts.
func (s *Seat) Leave() {
	s.gate.conns.mu.Lock()
	defer s.gate.conns.mu.Unlock()
	s.leave()
}

func (s *Seat) leave() {
	if s.left {
		return
	}
	s.endStranger()
	s.left = true
	g := s.gate
	g.count.Open--
	g.conns.total--
	v := g.byAddress[s.address]
	if v.open--; v.open == 0 {
		delete(g.byAddress, s.address)
	}
}

// Open returns how many connections the listener has, and how many of them have peers
// that have not logged in.
func (g *Gate) Open() (all, strangers int) {
	g.conns.mu.Lock()
	defer g.conns.mu.Unlock()
	return g.count.Open, g.strangers.Len()
}

// Counts returns what the gate has counted.
func (g *Gate) Counts() GateCounts {
	g.conns.mu.Lock()
	defer g.conns.mu.Unlock()
	return g.count
}
