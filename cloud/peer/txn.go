package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

const (
	verifyPath = "/peer/v1/txn/verify"
	endPath    = "/peer/v1/txn/end"

	// maxDecision bounds the body of a request to end a transaction, in bytes: it names all
	// its partitions and groups in a shard. maxVerdict bounds the answers.
	maxDecision = 4 << 20
	maxVerdict  = 64 << 10
)

// transaction answers a request about a transaction with what ask returns.
func (s *Server) transaction(ask func(ctx context.Context, question []byte) (answer []byte, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if ask == nil {
			http.NotFound(w, r)
			return
		}
		question, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "read the request: "+err.Error(), http.StatusBadRequest)
			return
		}
		answer, err := ask(r.Context(), question)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // fails only if the caller has gone
	}
}

// VerifyTransaction asks a node, by its name and host:port, about a part of a transaction
// that it coordinates. The bodies are those of package txn. Errors: ErrUnknownVerb; after
// any other the outcome is not known.
func (c *Client) VerifyTransaction(ctx context.Context, node, address string, question []byte) (answer []byte, err error) {
	return c.transaction(ctx, node, address, verifyPath, question)
}

// EndTransaction asks a node to end a transaction in a shard that it serves, like
// VerifyTransaction.
func (c *Client) EndTransaction(ctx context.Context, node, address string, question []byte) (answer []byte, err error) {
	return c.transaction(ctx, node, address, endPath, question)
}

// transaction asks over a connection that only requests about transactions use, so that
// nothing else waits behind them.
func (c *Client) transaction(ctx context.Context, node, address, path string, question []byte) ([]byte, error) {
	key := node + "\n" + address + "\n" + verifyPath
	l := c.link(key, node, address)
	answer, err := l.post(ctx, path, question)
	if err == nil || errors.Is(err, ErrUnknownVerb) {
		return answer, err
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		c.drop(key, l)
	}
	return nil, fmt.Errorf("ask node %q at %s: %w", node, address, err)
}

func (l *link) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://node"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := l.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, ErrUnknownVerb
	default:
		return nil, fmt.Errorf("status %s", res.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxVerdict+1))
	if err == nil && len(answer) > maxVerdict {
		err = fmt.Errorf("%w: it is longer than %d bytes", errAnswer, maxVerdict)
	}
	return answer, err
}
