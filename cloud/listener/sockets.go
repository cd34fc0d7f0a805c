package listener

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

// DefaultName is the name of a listener for which none is set.
const DefaultName = "default"

// ErrSocket means that a socket with which the process was started does not fit its
// settings.
var ErrSocket = errors.New("a socket does not fit the settings")

// Sockets are sockets with which the process was started, each for the listener of that
// name. A nil *Sockets has none. It is used by one goroutine.
type Sockets struct {
	streams map[string]net.Listener
	packets map[string]net.PacketConn
}

// SocketName is the name of the socket for a door's listener: that of the door, and unless
// it is DefaultName that of the listener behind it: kafka, kafka-plant.
func SocketName(door, name string) string {
	if name == DefaultName || name == "" {
		return door
	}
	return door + "-" + name
}

// Add adds a socket: stream for TCP, or packet for UDP. Errors: ErrSocket.
func (s *Sockets) Add(name string, stream net.Listener, packet net.PacketConn) error {
	if s.streams[name] != nil || s.packets[name] != nil {
		return fmt.Errorf("%w: two are called %q, and a listener has one address", ErrSocket, name)
	}
	if s.streams == nil {
		s.streams, s.packets = make(map[string]net.Listener), make(map[string]net.PacketConn)
	}
	if stream != nil {
		s.streams[name] = stream
	} else {
		s.packets[name] = packet
	}
	return nil
}

// Listen returns the TCP socket of that name, which must be at address, or else opens one
// there. Errors: ErrSocket, those of net.
func (s *Sockets) Listen(name, address string) (net.Listener, error) {
	if s == nil || s.streams[name] == nil {
		return net.Listen("tcp", address)
	}
	l := s.streams[name]
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	has, ok := l.Addr().(*net.TCPAddr)
	if !ok || !same(want.IP, want.Port, has.IP, has.Port) {
		return nil, fmt.Errorf("%w: %q is at %v, and the address that is set for it is %s: set the same for both", ErrSocket, name, l.Addr(), address)
	}
	delete(s.streams, name)
	return l, nil
}

// ListenPacket is Listen for UDP.
func (s *Sockets) ListenPacket(name, address string) (net.PacketConn, error) {
	if s == nil || s.packets[name] == nil {
		return net.ListenPacket("udp", address)
	}
	c := s.packets[name]
	want, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	has, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok || !same(want.IP, want.Port, has.IP, has.Port) {
		return nil, fmt.Errorf("%w: %q is at %v, and the address that is set for it is %s: set the same for both", ErrSocket, name, c.LocalAddr(), address)
	}
	delete(s.packets, name)
	return c, nil
}

// same reports whether a socket is where it should be. A port of 0 is any. What a listener
// requires of clients was checked for its address: a socket that reaches further would let
// strangers in.
func same(ip net.IP, port int, hasIP net.IP, hasPort int) bool {
	anywhere := func(ip net.IP) bool { return ip == nil || ip.IsUnspecified() }
	return (port == 0 || port == hasPort) && (ip.Equal(hasIP) || anywhere(ip) && anywhere(hasIP))
}

// Unused returns an error that names the sockets that no listener has asked for: nobody
// would answer there. Errors: ErrSocket.
func (s *Sockets) Unused() error {
	if s == nil || len(s.streams)+len(s.packets) == 0 {
		return nil
	}
	var names []string
	for name := range maps.Keys(s.streams) {
		names = append(names, name+" (TCP)")
	}
	for name := range maps.Keys(s.packets) {
		names = append(names, name+" (UDP)")
	}
	slices.Sort(names)
	return fmt.Errorf("%w: no listener is set for %s: a socket is called kafka, amqp, management, http, peer (all TCP) or sync (UDP), or like kafka-NAME for a listener with a name",
		ErrSocket, strings.Join(names, ", "))
}

// Close closes those that are unused.
func (s *Sockets) Close() error {
	if s == nil {
		return nil
	}
	var errs []error
	for _, l := range s.streams {
		errs = append(errs, l.Close())
	}
	for _, c := range s.packets {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
