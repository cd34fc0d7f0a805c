// Package durable makes names durable.
package durable

import (
	"errors"
	"os"
)

// SyncDir makes the names in a folder durable: of what was created, renamed and removed
// there before.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
