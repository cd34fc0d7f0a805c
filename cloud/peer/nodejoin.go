package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/weirmq/weir/sync/join"
)

const (
	nodeJoinPath  = "/peer/v1/node-join"
	nodeRenewPath = "/peer/v1/node-renew"
)

// A node without a certificate asks for one in a protocol of its own, without HTTP: one
// question and one answer, each a length of 4 bytes (big endian) and a JSON body.
const (
	// maxAdmission bounds the body of either, in bytes.
	maxAdmission = 16 << 10
	// admitTime is how long the answer may take.
	admitTime = 20 * time.Second
)

// NodeMembership are the calls for nodes that do not have the CA's key. The errors are those
// of package join.
type NodeMembership struct {
	Join     func(context.Context, NodeQuestion) (join.Admission, error) // for one that has no certificate
	JoinHere func(context.Context, NodeQuestion) (join.Admission, error) // the same, passed on to the owner of the catalogue
	Renew    func(ctx context.Context, node string, csr []byte) (join.Admission, error)
}

// NodeQuestion is a node that wants certificates.
type NodeQuestion struct {
	Secret [16]byte `json:"secret"`
	Name   string   `json:"name"`
	CSR    []byte   `json:"csr"` // DER
}

// admissionAnswer is what the node gets, or join's verdict.
type admissionAnswer struct {
	join.Admission
	Verdict uint8  `json:"verdict,omitempty"`
	Text    string `json:"text,omitempty"`
}

func admitted(a join.Admission, err error) admissionAnswer {
	if err != nil {
		return admissionAnswer{Verdict: join.Verdict(err), Text: err.Error()}
	}
	return admissionAnswer{Admission: a}
}

// admission reads an answer.
func admission(body []byte) (join.Admission, error) {
	var a admissionAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return join.Admission{}, fmt.Errorf("%w: %w", join.ErrUnavailable, err)
	}
	return a.Admission, join.VerdictError(a.Verdict, a.Text)
}

// answerStranger answers a node that has no certificate. Its seat is that of a stranger, so
// it may be closed at any time.
func (s *Server) answerStranger(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(handshakeTime))
	body, err := readShort(c)
	var q NodeQuestion
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	if err != nil {
		s.refused.Note("address", c.RemoteAddr().String(), "err", fmt.Errorf("read the question of a node that wants to join: %w", err))
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, admitTime)
	defer cancel()
	_ = c.SetDeadline(time.Now().Add(admitTime + handshakeTime))
	a, refused := s.o.Nodes.Join(ctx, q)
	if refused != nil { // anybody can make this happen, as often as he likes
		s.refused.Note("address", c.RemoteAddr().String(), "err", fmt.Errorf("a node was not let in: %w", refused))
	} else {
		s.o.Log.Info("a node has joined", "node", q.Name, "address", c.RemoteAddr().String())
	}
	body, err = json.Marshal(admitted(a, refused))
	if err == nil {
		err = writeShort(c, body)
	}
	if err != nil && refused == nil {
		s.o.Log.Warn("a node that wants to join has not got its answer", "node", q.Name, "address", c.RemoteAddr().String(), "err", err)
	}
}

func writeShort(w io.Writer, body []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

func readShort(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxAdmission {
		return nil, fmt.Errorf("%d bytes are announced, and at most %d are legal", n, maxAdmission)
	}
	var body bytes.Buffer // grows with what arrives
	_, err := io.CopyN(&body, r, int64(n))
	return body.Bytes(), err
}

// JoinNode asks the node at a host:port for the first certificates of this one. The errors
// are those of package join, and any other if nobody answers.
func JoinNode(ctx context.Context, address string, t join.Token, q NodeQuestion) (a join.Admission, err error) {
	ctx, cancel := context.WithTimeout(ctx, admitTime+handshakeTime)
	defer cancel()
	conn, err := (&tls.Dialer{Config: join.NodeJoinTLS(t, nil)}).DialContext(ctx, "tcp", address)
	if err != nil {
		return a, fmt.Errorf("ask the node at %s: %w", address, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	body, err := json.Marshal(q)
	if err == nil {
		err = writeShort(conn, body)
	}
	if err == nil {
		body, err = readShort(conn)
	}
	if err != nil {
		return a, errors.Join(fmt.Errorf("ask the node at %s: %w", address, err), ctx.Err())
	}
	return admission(body)
}

func (s *Server) nodeJoin(w http.ResponseWriter, r *http.Request) {
	var q NodeQuestion
	if s.o.Nodes.JoinHere == nil {
		http.NotFound(w, r)
	} else if question(w, r, &q) {
		_ = json.NewEncoder(w).Encode(admitted(s.o.Nodes.JoinHere(r.Context(), q))) // fails only if the caller has gone
	}
}

// nodeRenew renews the certificates of the node that asks.
func (s *Server) nodeRenew(w http.ResponseWriter, r *http.Request) {
	var q NodeQuestion
	if s.o.Nodes.Renew == nil {
		http.NotFound(w, r)
	} else if question(w, r, &q) {
		_ = json.NewEncoder(w).Encode(admitted(s.o.Nodes.Renew(r.Context(), asker(r), q.CSR))) // fails only if the caller has gone
	}
}

// PassNodeJoin asks the owner of the catalogue, by its name and host:port, to admit a node.
// The errors are those of package join.
func (c *Client) PassNodeJoin(ctx context.Context, node, address string, q NodeQuestion) (join.Admission, error) {
	return c.admission(ctx, node, address, nodeJoinPath, q)
}

// RenewNode asks the owner of the catalogue for new certificates for this node. The errors
// are those of package join.
func (c *Client) RenewNode(ctx context.Context, node, address string, csr []byte) (join.Admission, error) {
	return c.admission(ctx, node, address, nodeRenewPath, NodeQuestion{CSR: csr})
}

func (c *Client) admission(ctx context.Context, node, address, path string, q NodeQuestion) (join.Admission, error) {
	body, err := json.Marshal(q)
	if err == nil {
		body, err = c.post(ctx, path, node, address, path, body, maxAdmission)
	}
	if err != nil {
		return join.Admission{}, fmt.Errorf("%w: %w", join.ErrUnavailable, err)
	}
	return admission(body)
}
