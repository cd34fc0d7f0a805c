// Package durable makes names durable.
package durable

import (
	"errors"
	"os"
)

// SyncDir makes durable what was created, renamed and removed in a folder before the
// call.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
