package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
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

// maxRows is how many rows of others a handle remembers. Forgetting one costs
// reading the headers of its packs again.
const maxRows = 256

// row is a folder log/<number> whose objects are named by numbers. Those that
// its appender created are in packs, all others are files: the row is both.
type row struct {
	b       *Bucket
	name    string // the folder, relative to the root
	id      [16]byte
	version uint32
	writer  *appender // nil when another handle made the row

	mu     sync.Mutex
	packs  []*pack          // guarded by mu: by number, without gaps
	index  map[uint64]place // guarded by mu: all that is in packs, with what is gone
	damage error            // guarded by mu: why a number that is not found may have been there
	end    *rowEnd          // guarded by mu: where the row ends, once it is frozen
	sealed bool             // guarded by mu: end is known to be durable
}

// place is where a record is.
type place struct {
	pack *pack
	record
}

// splitRow cuts the key of an object in a row: …log/<20 digits>/<20 digits>.
func splitRow(key string) (folder string, number uint64, ok bool) {
	folder, last := path.Split(key)
	folder = strings.TrimSuffix(folder, "/")
	number, ok = parseNumber(last)
	return folder, number, ok && isRow(folder)
}

// isRow reports whether a folder is that of a row.
func isRow(folder string) bool {
	above, last := path.Split(folder)
	_, ok := parseNumber(last)
	return ok && (above == "log/" || strings.HasSuffix(above, "/log/"))
}

func parseNumber(s string) (uint64, bool) {
	if len(s) != rowDigits {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

func formatNumber(n uint64) string { return fmt.Sprintf("%0*d", rowDigits, n) }

func (r *row) path(name string) string { return filepath.Join(r.b.root, r.name, name) }

// file returns the path of a file of the row's own.
func (r *row) file(name string) string { return r.path(r.dot() + name) }

func (r *row) dot() string {
	if r.version < 2 {
		return "."
	}
	return ""
}

func (r *row) packPath(number uint64) string { return r.file(packStem + formatNumber(number)) }

func (r *row) gonePath(number uint64) string { return r.file(goneStem + formatNumber(number)) }

// row returns the row in a folder, or nil when nobody has made one.
func (b *Bucket) row(folder string) (*row, error) {
	b.rowsMu.Lock()
	defer b.rowsMu.Unlock()
	return b.loadRow(folder)
}

// loadRow is row for who holds rowsMu.
func (b *Bucket) loadRow(folder string) (*row, error) {
	if r := b.rows[folder]; r != nil {
		return r, nil
	}
	r, err := b.readRow(folder)
	if r == nil || err != nil {
		return nil, err
	}
	return b.remember(r), nil
}

// joinRow returns the row in a folder. Where there is none it makes one, and
// this handle its appender: .row is linked only once, whatever the version.
func (b *Bucket) joinRow(folder string) (*row, error) {
	b.rowsMu.Lock()
	defer b.rowsMu.Unlock()
	if r, err := b.loadRow(folder); r != nil || err != nil {
		return r, err
	}
	dir, err := b.openDir(folder)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	r := &row{b: b, name: folder, version: b.rowVersion()}
	rand.Read(r.id[:])
	switch err := b.place(dir, r.path(decider), encodeRow(r.id, r.version), filePerm); {
	case errors.Is(err, unix.EEXIST):
		return b.loadRow(folder)
	case err != nil:
		return nil, fmt.Errorf("make row: %w", err)
	}
	if err := r.baptise(dir); err != nil {
		return nil, fmt.Errorf("make row: %w", err)
	}
	r.writer = newAppender(r)
	return b.remember(r), nil
}

func (b *Bucket) remember(r *row) *row {
	if len(b.rows) >= maxRows {
		for name, old := range b.rows {
			if old.writer == nil || old.writer.isClosed() {
				delete(b.rows, name)
			}
			if len(b.rows) < maxRows {
				break
			}
		}
	}
	b.rows[r.name] = r
	return r
}

// forget drops a row whose folder somebody has removed.
func (b *Bucket) forget(r *row) {
	b.rowsMu.Lock()
	defer b.rowsMu.Unlock()
	if b.rows[r.name] == r {
		delete(b.rows, r.name)
	}
}

// createInRow is create for the key of a row. Only the appender creates in a row
// that is open; whoever else wants to closes it first. So a number is never in a
// pack and the name of a file at once.
func (b *Bucket) createInRow(key, folder string, number uint64, body []byte) error {
	r, err := b.joinRow(folder)
	if err != nil {
		return err
	}
	if r.writer != nil {
		if err := r.writer.create(key, number, body); !errors.Is(err, errClosed) {
			return err
		}
	}
	taken, err := r.claim(number)
	if err != nil {
		return err
	}
	if taken {
		return storage.ErrExists
	}
	return b.createFile(key, body, filePerm)
}

// claim reports whether a number is taken by a record, for a handle that is not
// the appender. When it is, it is durable; when it is not, the row is closed, and
// so none will ever take it.
func (r *row) claim(number uint64) (taken bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var at place
	for {
		if err := r.refresh(); err != nil {
			return false, err
		}
		if at, taken, err = r.find(number); err != nil {
			return false, err
		}
		if !taken || r.sealed {
			break
		}
		if err := r.syncPack(at.pack.number); !errors.Is(err, fs.ErrNotExist) {
			return true, err
		}
	}
	if !r.sealed {
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

// sweepOthers removes the packs of which nothing is left from the rows that others
// made and that are closed. They were the last of an open row when their records were
// deleted, and nobody deletes there any more. It is done when this handle fills a row
// of its own, and not when it closes one: who closes may find that something is
// missing, and then nothing is removed. What cannot be removed now stays until then
// next time.
func (b *Bucket) sweepOthers() {
	b.rowsMu.Lock()
	var others []*row
	for _, r := range b.rows {
		if r.writer == nil {
			others = append(others, r)
		}
	}
	b.rowsMu.Unlock()
	for _, r := range others {
		r.mu.Lock()
		if r.end != nil && r.sealed {
			_ = r.sweep()
		}
		r.mu.Unlock()
	}
}

// syncPack makes what is in a pack durable, with its name. Whoever hears
// ErrExists builds on it, and its appender may not have got that far.
func (r *row) syncPack(number uint64) error {
	f, err := os.Open(r.packPath(number))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := r.b.datasync(f); err != nil {
		return r.b.broke(fmt.Errorf("sync %s: %w", f.Name(), err))
	}
	dir, err := r.b.openDir(r.name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return r.b.syncDir(dir)
}

// lookup finds the record of a number among those that are known. When it is
// not found and at.pack is set, it is gone from there. The caller holds mu.
func (r *row) lookup(number uint64) (at place, found bool, err error) {
	at, found = r.index[number]
	if !found {
		return place{}, false, nil
	}
	if err := r.followGone(at.pack); err != nil {
		return place{}, false, err
	}
	return at, !at.pack.gone.has(at.id), nil
}

// find is lookup for who builds on the answer: a pack that another process has
// removed is noticed. The caller holds mu.
func (r *row) find(number uint64) (at place, found bool, err error) {
	for {
		at, found, err = r.lookup(number)
		if !found || err != nil {
			return at, false, err
		}
		there, err := exists(r.packPath(at.pack.number))
		if there || err != nil {
			return at, there, err
		}
		if err := r.dropGone(); err != nil {
			return place{}, false, err
		}
	}
}

// refresh makes known what others have appended up to now. The caller holds mu.
// Nothing is believed before `close` was looked for, after the records were read:
// whoever closes the row reads them later, and then has them too.
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
		return nil // whoever writes sees to it that it is durable
	}
	r.publish()
	return nil
}

// publish puts into the index what was read and is not in there. The caller
// holds mu.
func (r *row) publish() {
	if r.index == nil {
		r.index = make(map[uint64]place)
	}
	for _, p := range r.packs {
		for _, rec := range p.records[p.indexed:] {
			r.index[rec.number] = place{p, rec}
		}
		p.indexed = len(p.records)
	}
}

// drop forgets the lowest pack, whose file is gone. The caller holds mu.
func (r *row) drop() {
	p := r.packs[0]
	r.packs = r.packs[1:]
	for _, rec := range p.records {
		if at := r.index[rec.number]; at.pack == p && at.id == rec.id {
			delete(r.index, rec.number)
		}
	}
}

// dropGone forgets the packs whose files are gone. The caller holds mu.
func (r *row) dropGone() error {
	for len(r.packs) > 0 {
		there, err := exists(r.packPath(r.packs[0].number))
		if there || err != nil {
			return err
		}
		r.drop()
	}
	return nil
}

// get reads a record that is known already. found is false if there is none.
func (r *row) get(ctx context.Context, number uint64, off, n int64) (body []byte, found bool, err error) {
	if err := r.settle(ctx, number); err != nil {
		return nil, false, err
	}
	for {
		r.mu.Lock()
		at, found, err := r.lookup(number)
		r.mu.Unlock()
		if err != nil || !found {
			return nil, false, err
		}
		body, err := r.read(at, off, n)
		if !errors.Is(err, errPackGone) {
			return body, err == nil, err
		}
		r.mu.Lock()
		err = r.dropGone()
		r.mu.Unlock()
		if err != nil {
			return nil, false, err
		}
	}
}

// settle waits for a Create of the number that is under way in this handle.
// Other handles may see its record before it is durable, and so this one must
// not deny it.
func (r *row) settle(ctx context.Context, numbers ...uint64) error {
	if r.writer == nil {
		return nil
	}
	return r.writer.settle(ctx, numbers)
}

// getFromRow is get for the key of a row.
func (b *Bucket) getFromRow(ctx context.Context, key, folder string, number uint64, off, n int64) ([]byte, error) {
	r, err := b.row(folder)
	if err != nil {
		return nil, err
	}
	if r != nil {
		if body, found, err := r.get(ctx, number, off, n); found || err != nil {
			return body, err
		}
	}
	body, err := b.getFile(key, off, n)
	if !errors.Is(err, fs.ErrNotExist) {
		return body, err
	}
	if r == nil {
		if r, err = b.row(folder); err != nil {
			return nil, err
		}
		if r == nil {
			return nil, fs.ErrNotExist
		}
	}
	r.mu.Lock()
	err = r.refresh()
	damage := r.damage
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	body, found, err := r.get(ctx, number, off, n)
	switch {
	case found || err != nil:
		return body, err
	case damage != nil:
		return nil, damage
	}
	return nil, fs.ErrNotExist
}

// rowNames returns the names of the objects in the packs of a folder.
func (b *Bucket) rowNames(ctx context.Context, folder string) ([]string, error) {
	r, err := b.row(folder)
	if r == nil || err != nil {
		return nil, err
	}
	if err := r.settle(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refresh(); err != nil {
		return nil, err
	}
	if r.damage != nil {
		return nil, r.damage
	}
	if err := r.dropGone(); err != nil {
		return nil, err
	}
	for _, p := range r.packs {
		if err := r.followGone(p); err != nil {
			return nil, err
		}
	}
	names := make([]string, 0, len(r.index))
	for number, at := range r.index {
		if !at.pack.gone.has(at.id) {
			names = append(names, formatNumber(number))
		}
	}
	return names, nil
}

// exists reports whether there is a file of that name.
func exists(name string) (bool, error) {
	err := unix.Access(name, unix.F_OK)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return err == nil, nil
	}
	return false, &fs.PathError{Op: "access", Path: name, Err: err}
}
