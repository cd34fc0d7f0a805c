package file

import (
	"github.com/weirmq/weir/storage/file/disk"
	"github.com/weirmq/weir/storage/file/row"
)

// Open opens the bucket in the folder dir and creates the folder, durably, when
// it is missing. It finds out how the file system makes nameless files, and
// removes temporary files that a crash left behind.
func Open(dir string) (*Bucket, error) {
	d, err := disk.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Bucket{disk: d, rows: row.New(d)}, nil
}
