//go:build weirtest

package commitlog

import "fmt"

// verify verifies the batch of an append, whatever its caller says of it: a caller that
// is wrong would store damaged bytes.
func verify(a Append) error {
	err := a.Batch.Verify()
	if err != nil && a.Verified {
		panic(fmt.Sprintf("commitlog: a batch that counts as verified is damaged: %v", err))
	}
	return err
}
