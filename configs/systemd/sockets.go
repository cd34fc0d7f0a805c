package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
)

// Socket is a socket that the service manager has opened, and listens on while the daemon
// does not run: one that arrives there starts it (systemd.socket(5)). Stream or Packet is
// set.
type Socket struct {
	Name   string // FileDescriptorName= of its unit
	Stream net.Listener
	Packet net.PacketConn
}

// Sockets returns the sockets that this process was started with (sd_listen_fds(3)), none if
// the variables LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES do not say so. It takes the
// variables out of the environment: a second call returns none.
//
// Errors: one of them is not a socket that is listened on. Then all are closed.
func Sockets() ([]Socket, error) {
	var all []Socket
	var errs []error
	for _, file := range activation.Files(true) {
		s, err := socketOf(file)
		errs = append(errs, err)
		if err == nil {
			all = append(all, s)
		}
	}
	if err := errors.Join(errs...); err != nil {
		for _, s := range all {
			err = errors.Join(err, s.Close())
		}
		return nil, err
	}
	return all, nil
}

// socketOf makes a socket of a file, which it closes.
func socketOf(file *os.File) (Socket, error) {
	defer file.Close()
	s := Socket{Name: file.Name()}
	var streams, packets error
	if s.Stream, streams = net.FileListener(file); streams == nil {
		return s, nil
	}
	if s.Packet, packets = net.FilePacketConn(file); packets == nil {
		return s, nil
	}
	return s, fmt.Errorf("socket %q of the service manager is neither TCP nor UDP: %w", s.Name, errors.Join(streams, packets))
}

// Close closes the socket in this process. The service manager still has it.
func (s Socket) Close() error {
	if s.Stream != nil {
		return s.Stream.Close()
	}
	return s.Packet.Close()
}
