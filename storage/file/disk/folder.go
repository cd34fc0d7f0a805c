package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weirmq/weir/storage"
)

// OpenDir opens the folder for a key, and creates it if it is missing. On return the
// folder's own name is durable. The parents of a new folder are synced here, and also
// those of a folder that this handle sees for the first time, because the process that
// made it may not have synced them.
func (d *Disk) OpenDir(name string) (*os.File, error) {
	if !d.known(name) {
		for _, folder := range parents(name) {
			if err := d.makeDir(folder); err != nil {
				return nil, err
			}
		}
		d.learn(name, true)
	}
	dir, err := os.Open(d.Path(name))
	if err != nil {
		d.learn(name, false) // removed by hand: it is created again next time
		return nil, err
	}
	return dir, nil
}

func (d *Disk) makeDir(name string) error {
	dir := d.Path(name)
	if err := os.Mkdir(dir, DirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("%w: %s is an object and no folder", storage.ErrKey, name)
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	return d.SyncDir(parent)
}

// parents returns a/b/c and all folders above it, but not the root, from the
// top down: a, a/b, a/b/c.
func parents(name string) []string {
	if name == "." {
		return nil
	}
	var all []string
	for i, c := range []byte(name) {
		if c == '/' {
			all = append(all, name[:i])
		}
	}
	return append(all, name)
}

func (d *Disk) known(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dirs[dir]
}

func (d *Disk) learn(dir string, durable bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if durable {
		d.dirs[dir] = true
	} else {
		delete(d.dirs, dir)
	}
}
