package row

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/file/disk"
)

// Names in the folder of a row, see FORMAT.md. In a row of version 1 they begin
// with a dot.
const (
	rowName   = "row"
	closeName = "close"
	endName   = "end"
	packStem  = "pack-"
	goneStem  = "gone-"
)

// rowDigits is how many digits the numbers of a row have in keys.
const rowDigits = 20

// row is a folder log/<number> whose objects are named by numbers. Those that its
// appender created are in packs, all others are files; the row is both together.
type row struct {
	rows    *Rows
	disk    *disk.Disk
	name    string // the folder, relative to the root
	id      [16]byte
	version uint32
	writer  *appender // nil if another handle made the row

	mu        sync.Mutex
	packs     []*pack             // guarded by mu: by number
	last      uint64              // guarded by mu: the highest number of a pack so far
	index     map[uint64]location // guarded by mu: all records in packs, deleted ones included
	damage    error               // guarded by mu: why a number that is not found may have been lost
	marks     marks               // guarded by mu: those that were read
	marksRead int64               // guarded by mu: bytes of the row's file that are in marks
	end       *rowEnd             // guarded by mu: where the row ends, once it is frozen
	endSynced bool                // guarded by mu: end is known to be durable
}

// location is where a record is.
type location struct {
	pack *pack
	record
}

func formatNumber(n uint64) string { return fmt.Sprintf("%0*d", rowDigits, n) }

func (r *row) path(name string) string { return filepath.Join(r.disk.Root, r.name, name) }

// file returns the path of one of the row's own files.
func (r *row) file(name string) string { return r.path(r.dot() + name) }

func (r *row) dot() string {
	if r.version < 2 {
		return "."
	}
	return ""
}

func (r *row) packPath(number uint64) string { return r.file(packStem + formatNumber(number)) }

func (r *row) gonePath(number uint64) string { return r.file(goneStem + formatNumber(number)) }

// takenOrClosed reports whether a number is taken by a record, for a handle that is not
// the appender. If it is taken, the record is durable. If it is not, the row is closed,
// so no record will ever take it.
func (r *row) takenOrClosed(number uint64) (taken bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var at location
	for {
		if err := r.refresh(); err != nil {
			return false, err
		}
		if at, taken, err = r.find(number); err != nil {
			return false, err
		}
		if !taken || r.endSynced {
			break
		}
		if err := r.syncPack(at.pack.number); !errors.Is(err, fs.ErrNotExist) {
			return true, err
		}
	}
	if !r.endSynced {
		if err := r.freeze(); err != nil {
			return false, fmt.Errorf("close row: %w", err)
		}
		if at, taken, err = r.find(number); err != nil {
			return false, err
		}
	}
	if !taken && r.damage != nil {
		return false, r.damage
	}
	if !taken && at.pack != nil {
		return false, r.syncGone(at.pack)
	}
	return taken, nil
}

// syncPack makes a pack durable, with its name. A caller that gets ErrExists relies on
// it, and the pack's appender may not have synced it yet.
func (r *row) syncPack(number uint64) error {
	f, err := os.Open(r.packPath(number))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := r.disk.Data(f); err != nil {
		return r.disk.Broke(fmt.Errorf("sync %s: %w", f.Name(), err))
	}
	dir, err := r.disk.OpenDir(r.name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return r.disk.SyncDir(dir)
}

// lookup finds the record of a number among those that are known. If it is not found
// and at.pack is set, it was deleted from that pack. The caller holds mu.
func (r *row) lookup(number uint64) (at location, found bool, err error) {
	at, found = r.index[number]
	if !found {
		return location{}, false, nil
	}
	if err := r.followGone(at.pack); err != nil {
		return location{}, false, err
	}
	return at, !at.pack.gone.has(at.id), nil
}

// find is lookup for a caller that acts on the answer: it notices if another process
// has removed the pack. The caller holds mu.
func (r *row) find(number uint64) (at location, found bool, err error) {
	for {
		at, found, err = r.lookup(number)
		if !found || err != nil {
			return at, false, err
		}
		there, err := disk.Exists(r.packPath(at.pack.number))
		if there || err != nil {
			return at, there, err
		}
		if err := r.forgetRemoved(); err != nil {
			return location{}, false, err
		}
	}
}

// refresh reads what others have appended so far. The caller holds mu. The records are
// read first, then `close` is checked, and only then the records count: a process that
// closes the row reads them later, and so has them too.
func (r *row) refresh() error {
	if r.end != nil || r.writer != nil && !r.writer.isClosed() {
		return nil
	}
	err := r.follow()
	closing := errors.Is(err, errFrozen)
	if err == nil {
		closing, err = r.closed()
	}
	if err != nil && !closing {
		return err
	}
	if closing {
		if err := r.freeze(); r.end == nil {
			return err
		}
		return nil // a writer makes sure that it is durable
	}
	r.publish()
	return nil
}

// publish adds records that were read to the index. The caller holds mu.
func (r *row) publish() {
	if r.index == nil {
		r.index = make(map[uint64]location)
	}
	for _, p := range r.packs {
		for _, rec := range p.records[p.indexed:] {
			r.index[rec.number] = location{p, rec}
		}
		p.indexed = len(p.records)
	}
}

// add adds a pack behind those that are known. The caller holds mu.
func (r *row) add(p *pack) {
	r.packs = append(r.packs, p)
	r.last = max(r.last, p.number)
}

// held returns how many bytes the row's packs have.
func (r *row) held() (bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.packs {
		bytes += p.size
	}
	return bytes
}

// forget drops a pack whose file was removed. The caller holds mu.
func (r *row) forget(p *pack) {
	if p == r.packs[0] {
		r.packs = r.packs[1:]
	} else {
		r.packs = slices.DeleteFunc(slices.Clone(r.packs), func(o *pack) bool { return o == p })
	}
	for _, rec := range p.records {
		if at := r.index[rec.number]; at.pack == p && at.id == rec.id {
			delete(r.index, rec.number)
		}
	}
}

// forgetRemoved drops the packs whose files were removed: in version 1 the lowest, in
// version 2 any with a mark. The error is errMissing for a pack without one. The caller
// holds mu.
func (r *row) forgetRemoved() error {
	for _, p := range r.packs {
		there, err := disk.Exists(r.packPath(p.number))
		if err != nil || there && r.version < 2 {
			return err
		}
		if there {
			continue
		}
		if err := r.marked(p.number); err != nil {
			return err
		}
		r.forget(p)
	}
	return nil
}

// marked returns errMissing if a pack is missing and no mark says that it was removed.
// It returns nil if the whole folder was removed.
func (r *row) marked(number uint64) error {
	m, err := r.readMarks()
	if err == nil && r.version > 1 && !m.gone(number) {
		err = fmt.Errorf("%s: %w", r.packPath(number), errMissing)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// get reads a record that is in the index. found is false if there is none. Whether
// another process has deleted it is checked after it was read: its space may have been
// given back before, and only after that was marked.
func (r *row) get(ctx context.Context, number uint64, off, n int64) (body []byte, found bool, err error) {
	if err := r.waitFor(ctx, number); err != nil {
		return nil, false, err
	}
	for {
		r.mu.Lock()
		at, found := r.index[number]
		found = found && !at.pack.gone.has(at.id)
		r.mu.Unlock()
		if !found {
			return nil, false, nil
		}
		r.rows.mutations.at("get")
		body, err := r.read(at, off, n)
		removed := errors.Is(err, errPackRemoved)
		if err != nil && !removed {
			return nil, false, err
		}
		r.mu.Lock()
		if removed {
			err = r.forgetRemoved()
		} else if !r.rows.mutations.readLast() {
			_, found, err = r.find(number)
		}
		r.mu.Unlock()
		if err != nil {
			return nil, false, err
		}
		if !removed {
			return body, found, nil
		}
	}
}

// waitFor waits for a Create of the number that is under way in this handle. Other
// handles may already see its record, so this one must not answer that it does not
// exist.
func (r *row) waitFor(ctx context.Context, numbers ...uint64) error {
	if r.writer == nil {
		return nil
	}
	return r.writer.waitFor(ctx, numbers)
}
