package e2e

import (
	"errors"
	"os"

	"github.com/weirmq/weir/firmware-sim/device"
)

// ledgerFile is what firmware-sim --sent writes.
type ledgerFile struct {
	*device.Ledger
	file *os.File
}

func createLedger(path string) (ledgerFile, error) {
	file, err := os.Create(path)
	if err != nil {
		return ledgerFile{}, err
	}
	return ledgerFile{device.NewLedger(file), file}, nil
}

func (l ledgerFile) Close() error { return errors.Join(l.Flush(), l.file.Close()) }
