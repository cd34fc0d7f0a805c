package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/wire"
)

const joinTimeout = 10 * time.Second

// HandleJoin serves one session of weir-join/1: one stream, one request, one
// response. Serve calls it; another transport calls it itself.
func (r *Receiver) HandleJoin(conn Session) error {
	if err := r.enter(true); err != nil {
		conn.Close(codeOf(err), err.Error())
		return err
	}
	defer r.leave(true)
	addr := conn.Peer.Addr
	seat, err := r.guard.stranger(addr, func() { conn.Close(wire.CodeBusy, "others want to join too") })
	if err != nil {
		conn.Close(wire.CodeBusy, err.Error())
		return err
	}
	defer seat.Leave()
	ctx, cancel := context.WithTimeout(r.ctx, joinTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close(wire.CodeTimeout, "joining takes too long") })
	defer stop()
	r.joins.Requests.Add(1)
	gateway, err := r.join(ctx, conn, seat)
	if err != nil {
		if may, unlogged := r.guard.mayLog(addr, true); may {
			r.log.Warn("gateway did not join", "gateway", gateway, "address", addr, "err", err, "unlogged", unlogged)
		}
		if errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrTooLarge) {
			r.countViolation(&r.joins)
			conn.Close(wire.CodeProtocol, err.Error())
			return err
		}
		r.joins.Errors.Add(1)
	} else {
		r.log.Info("gateway joined", "gateway", gateway, "address", addr)
	}
	conn.Close(wire.CodeNone, "")
	return err
}

func (r *Receiver) join(ctx context.Context, conn Session, seat *budget.Seat) (gateway string, err error) {
	st, err := conn.AcceptStream(ctx)
	if err != nil {
		return "", fmt.Errorf("accept stream: %w", err)
	}
	f, err := wire.Read(st, wire.MaxJoin)
	if err != nil {
		return "", fmt.Errorf("read join request: %w", err)
	}
	req, ok := f.(*wire.JoinRequest)
	if !ok {
		return "", fmt.Errorf("frame type %#02x instead of a join request: %w", f.Type(), wire.ErrMalformed)
	}
	seat.Heard()
	res := wire.JoinResponse{}
	done, err := r.decide(ctx, conn, req)
	if err != nil {
		res.Verdict, res.Text = join.Verdict(err), err.Error()
	} else {
		res.Certificate, res.CA = done.Certificate, done.CA
	}
	if werr := wire.Write(st, &res); werr != nil {
		return req.Gateway, fmt.Errorf("write join response: %w", errors.Join(err, werr))
	}
	io.Copy(io.Discard, st) // the gateway closes when it has read the response
	return req.Gateway, err
}

func (r *Receiver) decide(ctx context.Context, conn Session, req *wire.JoinRequest) (JoinResult, error) {
	if r.o.Join == nil {
		return JoinResult{}, fmt.Errorf("this node lets no gateway join: %w", join.ErrUnavailable)
	}
	addr := conn.Peer.Addr
	if pause := r.guard.pause(addr); pause > 0 {
		return JoinResult{}, fmt.Errorf("%w: wrong tokens came from this address: wait %v before the next try", join.ErrUnavailable, pause.Round(time.Second))
	}
	done, err := r.o.Join(ctx, JoinRequest{Addr: addr, Secret: req.Secret, Gateway: req.Gateway, CSR: req.CSR})
	if errors.Is(err, join.ErrTokenUnknown) {
		r.guard.wrong(addr)
	}
	return done, err
}
