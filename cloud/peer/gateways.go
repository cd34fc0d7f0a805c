package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/uplink"
)

const (
	joinPath    = "/peer/v1/join"
	renewPath   = "/peer/v1/renew"
	resolvePath = "/peer/v1/resolve"
)

// Membership are the calls of the owner of shard 0 for gateways that are connected to
// another node. Errors of Join and Renew are those of package join, of Resolve those of
// package uplink.
type Membership struct {
	Join    func(ctx context.Context, q JoinQuestion) (certificate []byte, err error)
	Renew   func(ctx context.Context, gateway string, csr []byte) (certificate []byte, err error)
	Resolve func(ctx context.Context, gateway, topic string) (weir.TopicID, int32, error)
}

// JoinQuestion is a gateway that wants to join.
type JoinQuestion struct {
	Secret  [16]byte `json:"secret"`
	Gateway string   `json:"gateway"`
	CSR     []byte   `json:"csr"` // DER
}

// renewQuestion is a gateway that wants a new certificate.
type renewQuestion struct {
	Gateway string `json:"gateway"`
	CSR     []byte `json:"csr"` // DER
}

// certificateAnswer is a certificate, or join's verdict.
type certificateAnswer struct {
	Certificate []byte `json:"certificate,omitempty"` // DER
	Verdict     uint8  `json:"verdict,omitempty"`
	Text        string `json:"text,omitempty"`
}

func certified(der []byte, err error) certificateAnswer {
	if err != nil {
		return certificateAnswer{Verdict: join.Verdict(err), Text: err.Error()}
	}
	return certificateAnswer{Certificate: der}
}

// resolveQuestion is a topic that a gateway names.
type resolveQuestion struct {
	Gateway string `json:"gateway"`
	Topic   string `json:"topic"`
}

// resolveAnswer is the topic, or the code of an attachment's error.
type resolveAnswer struct {
	ID         weir.TopicID `json:"id"`
	Partitions int32        `json:"partitions"`
	Code       byte         `json:"code,omitempty"`
	Text       string       `json:"text,omitempty"`
}

func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	var q JoinQuestion
	if s.o.Membership.Join == nil {
		http.NotFound(w, r)
	} else if question(w, r, &q) {
		_ = json.NewEncoder(w).Encode(certified(s.o.Membership.Join(r.Context(), q))) // fails only if the caller has gone
	}
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request) {
	var q renewQuestion
	if s.o.Membership.Renew == nil {
		http.NotFound(w, r)
	} else if question(w, r, &q) {
		_ = json.NewEncoder(w).Encode(certified(s.o.Membership.Renew(r.Context(), q.Gateway, q.CSR))) // fails only if the caller has gone
	}
}

func (s *Server) resolve(w http.ResponseWriter, r *http.Request) {
	var q resolveQuestion
	if s.o.Membership.Resolve == nil {
		http.NotFound(w, r)
	} else if question(w, r, &q) {
		var a resolveAnswer
		var err error
		if a.ID, a.Partitions, err = s.o.Membership.Resolve(r.Context(), q.Gateway, q.Topic); err != nil {
			a = resolveAnswer{Code: codeOf(err), Text: err.Error()}
		}
		_ = json.NewEncoder(w).Encode(a) // fails only if the caller has gone
	}
}

// Join asks a node, by its name and host:port, to admit a gateway. It returns the
// certificate. The errors are those of package join.
func (c *Client) Join(ctx context.Context, node, address string, q JoinQuestion) ([]byte, error) {
	return c.certificate(ctx, node, address, joinPath, q)
}

// Renew asks a node, by its name and host:port, for a new certificate for a gateway. The
// errors are those of package join.
func (c *Client) Renew(ctx context.Context, node, address, gateway string, csr []byte) ([]byte, error) {
	return c.certificate(ctx, node, address, renewPath, renewQuestion{gateway, csr})
}

func (c *Client) certificate(ctx context.Context, node, address, path string, q any) ([]byte, error) {
	var a certificateAnswer
	if err := c.postJSON(ctx, node, address, path, q, &a); err != nil {
		return nil, fmt.Errorf("%w: %w", join.ErrUnavailable, err)
	}
	switch {
	case a.Verdict != 0:
		return nil, join.VerdictError(a.Verdict, a.Text)
	case len(a.Certificate) == 0:
		return nil, fmt.Errorf("%w: %w without a certificate", join.ErrUnavailable, errAnswer)
	}
	return a.Certificate, nil
}

// Resolve asks a node, by its name and host:port, for a topic that a gateway names, and to
// create it if there is none and the gateway may have it. The errors are those of package
// uplink.
func (c *Client) Resolve(ctx context.Context, node, address, gateway, topic string) (weir.TopicID, int32, error) {
	var a resolveAnswer
	if err := c.postJSON(ctx, node, address, resolvePath, resolveQuestion{gateway, topic}, &a); err != nil {
		return weir.TopicID{}, 0, fmt.Errorf("%w: %w", uplink.ErrBusy, err)
	}
	if a.Code == codeDetached {
		a.Code = codeBusy // that node does not own shard 0 any more
	}
	if err := errorOf(a.Code, a.Text); err != nil {
		return weir.TopicID{}, 0, err
	}
	return a.ID, a.Partitions, nil
}
