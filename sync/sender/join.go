package sender

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"time"

	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/wire"
)

// Join asks the cloud at addr for an identity, once. The key must already be stored:
// once the cloud has accepted it, no other key can get the id. The errors are those of
// package join (the token's, or ErrForeign if the cloud is not the token's) and those
// of the link. Join stores nothing: call Save on the result.
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

// JoinOver is Join over a session that has already checked the cloud.
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
		return nil, fmt.Errorf("frame type %#02x instead of an answer to joining: %w", f.Type(), errProtocol)
	}
	if err := join.VerdictError(r.Verdict, r.Text); err != nil {
		return nil, err
	}
	return join.NewIdentity(key, r.Certificate, r.CA)
}
