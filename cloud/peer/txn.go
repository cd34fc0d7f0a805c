package peer

import "context"

const (
	verifyPath = "/peer/v1/txn/verify"
	endPath    = "/peer/v1/txn/end"

	// maxDecision bounds the body of a request to end a transaction, in bytes: it names all
	// its partitions and groups in a shard. maxVerdict bounds the answers.
	maxDecision = 4 << 20
	maxVerdict  = 64 << 10
)

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
