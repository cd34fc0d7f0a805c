package sender

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"time"

	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/wire"
)

// Join asks the cloud at addr for an identity, once. The key must be kept
// already: a cloud that has let it in lets no other key have the id. Its errors
// are those of package join: the token's, ErrForeign when the cloud is not the
// token's, or those of the link. Nothing is stored here: call Save on what it
// returns.
func Join(ctx context.Context, addr string, t join.Token, gateway string, key *ecdsa.PrivateKey, now func() time.Time) (*join.Identity, error) {
	if err := join.CheckGateway(gateway); err != nil {
		return nil, err
	}
	conn, err := dialQUIC(ctx, addr, join.JoinTLS(t, now))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	defer conn.Close(wire.CodeNone, "")
	return JoinOver(ctx, conn, t, gateway, key)
}

// JoinOver is Join over a session that has checked the cloud already.
func JoinOver(ctx context.Context, conn Session, t join.Token, gateway string, key *ecdsa.PrivateKey) (*join.Identity, error) {
	defer context.AfterFunc(ctx, func() { conn.Close(wire.CodeTimeout, "") })()
	csr, err := join.NewCSR(key, gateway)
	if err != nil {
		return nil, err
	}
	st, err := conn.OpenStream(ctx, urgencyControl)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	if err := wire.Write(st, &wire.JoinRequest{Secret: t.Secret, Gateway: gateway, CSR: csr}); err != nil {
		return nil, fmt.Errorf("ask to join: %w", err)
	}
	f, err := wire.Read(st, wire.MaxJoin)
	if err != nil {
		return nil, fmt.Errorf("read the answer to joining: %w", err)
	}
	r, ok := f.(*wire.JoinResponse)
	if !ok {
		return nil, fmt.Errorf("frame type %#02x is no answer to joining: %w", f.Type(), errProtocol)
	}
	if err := join.VerdictError(r.Verdict, r.Text); err != nil {
		return nil, err
	}
	return join.NewIdentity(key, r.Certificate, r.CA)
}
