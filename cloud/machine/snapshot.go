package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrShape means that a machine does not write such an entry or snapshot.
var ErrShape = errors.New("unexpected shape")

// Encode encodes a value that was decoded from JSON.
func Encode(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode what was decoded from JSON: %v", err))
	}
	return body
}

// Canonical returns an ErrShape unless the snapshot of a machine that was restored
// from body equals body. A state has one encoding: anything out of order, duplicated
// or unknown was not written by Snapshot.
func Canonical(restored, body []byte) error {
	if !bytes.Equal(restored, body) {
		return fmt.Errorf("another encoding than this program's: %w", ErrShape)
	}
	return nil
}
