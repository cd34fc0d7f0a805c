//go:build !linux

package disk

import (
	"errors"
	"os"
)

// Only Linux has nameless files. Elsewhere temporary files have names in .tmp.

func openNameless(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func linkNameless(*os.File, string) error { return errors.ErrUnsupported }
