package peer

import (
	"context"
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
	return c.post(ctx, verifyPath, node, address, verifyPath, question, maxVerdict)
}

// EndTransaction asks a node to end a transaction in a shard that it serves, like
// VerifyTransaction.
func (c *Client) EndTransaction(ctx context.Context, node, address string, question []byte) (answer []byte, err error) {
	return c.post(ctx, verifyPath, node, address, endPath, question, maxVerdict)
}
