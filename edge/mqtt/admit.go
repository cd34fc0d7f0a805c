package mqtt

import (
	"fmt"
	"net"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/exposition"
)

// shortConnect is how long a peer has to send its CONNECT while more than half of the
// places for peers that have not logged in are taken.
const shortConnect = 2 * time.Second

// lineBurst is how many lines a minute are logged about one misbehaving address.
const lineBurst = 10

// openBudgets makes the limits of connections and of arriving packets.
func (s *Server) openBudgets() (err error) {
	waited := func(pool string) func(time.Duration) {
		h := s.o.Metrics.GetOrCreatePrometheusHistogramExt(fmt.Sprintf("weir_budget_waiting_seconds{pool=%q}", pool), exposition.Seconds())
		return func(d time.Duration) { h.Update(d.Seconds()) }
	}
	if s.arriving, err = budget.NewPool(budget.PoolOptions{Name: "mqtt", Bytes: int64(s.o.MaxArriving),
		Largest: int64(s.o.MaxPacketSize), Waited: waited("mqtt"), Log: s.log}); err != nil {
		return err
	}
	largest := int64(s.o.MaxConnectSize)
	if s.connecting, err = budget.NewPool(budget.PoolOptions{Name: "mqtt_connect", Bytes: 16 * largest,
		Largest: largest, Waited: waited("mqtt_connect"), Log: s.log}); err != nil {
		return err
	}
	// Each listener has its own limit; there is no limit for all of them.
	conns := budget.NewConns(budget.ConnsOptions{Total: s.o.MaxConnections*len(s.o.Listeners) + 1, Reserve: 1, Log: s.log})
	for _, l := range s.o.Listeners {
		s.gates = append(s.gates, conns.Gate(budget.GateOptions{Name: l.Addr().String(),
			Max: s.o.MaxConnections, PerAddress: s.o.MaxPerAddress, Strangers: s.o.MaxConnecting}))
	}
	return nil
}

// admit starts the reader of a new connection, or closes the connection if there are too
// many. It never waits. If too many peers have not logged in yet, one of them is closed
// for the new one: the oldest of the address that has most.
func (s *Server) admit(nc net.Conn, gate *budget.Gate) {
	c := newConn(s, nc)
	seat, err := gate.Enter(c.address, c.giveWay)
	if err != nil {
		s.count.refused.Inc()
		c.out.raw.Close()
		return
	}
	c.seat = seat
	wait := s.o.ConnectTimeout
	if _, strangers := gate.Open(); strangers > s.o.MaxConnecting/2 {
		wait = min(wait, shortConnect)
	}
	c.keepAliveEnds = time.Now().Add(wait)
	c.until = c.keepAliveEnds
	nc.SetDeadline(c.keepAliveEnds)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		seat.Leave()
		c.out.raw.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.readers.Add(1)
	s.mu.Unlock()
	s.count.accepted.Inc()
	go func() {
		defer s.readers.Done()
		c.serve()
		seat.Leave()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// giveWay closes a connection that has not logged in. It does not wait.
func (c *conn) giveWay() {
	c.s.count.gaveWay.Inc()
	c.stopped.Store(true)
	c.leave()
	c.out.raw.Close()
}

// cutStalled closes the connections of subscribers that take nothing, because others
// need the memory that their packets occupy.
func (s *Server) cutStalled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.out.cutStalled()
	}
}

// tell logs a line about a misbehaving peer, unless there were too many about its
// address: garbage must not fill the disk with log lines.
func (c *conn) tell(msg string, args ...any) {
	c.s.lines.Warn(c.s.log, c.address, msg, c.who(args...)...)
}
