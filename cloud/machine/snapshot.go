package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrShape: an entry or a snapshot is not what a machine writes.
var ErrShape = errors.New("unexpected shape")

// Encode encodes what a machine knows, which it has decoded from JSON.
func Encode(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode what was decoded from JSON: %v", err))
	}
	return body
}

// Canonical returns an ErrShape unless a machine that was restored from a snapshot,
// body, has that very snapshot: one state has one encoding, and what is out of order,
// or there twice, or unknown, is not what Snapshot wrote.
func Canonical(restored, body []byte) error {
	if !bytes.Equal(restored, body) {
		return fmt.Errorf("another encoding than this program's: %w", ErrShape)
	}
	return nil
}
