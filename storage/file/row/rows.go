// Package row keeps objects that come in sequence (see storage.Sequences) in few files.
// Most objects of a row, …/<number>/<number>, are not files: the handle that makes the
// row appends them to packs there, with one write and one sync for all that wait.
// FORMAT.md describes the files.
package row

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/disk"
)

// MayHave reports whether key may be that of an object in a row: …/<20 digits>/<20
// digits>. Only the folder itself shows whether there is a row.
func MayHave(key string) bool {
	_, _, ok := splitRow(key)
	return ok
}

func splitRow(key string) (folder string, number uint64, ok bool) {
	folder, last := path.Split(key)
	folder = strings.TrimSuffix(folder, "/")
	number, ok = parseNumber(last)
	return folder, number, ok && MayBe(folder)
}

// MayBe reports whether a folder may be that of a row: its name is a number.
func MayBe(folder string) bool {
	_, ok := parseNumber(path.Base(folder))
	return ok
}

func parseNumber(s string) (uint64, bool) {
	if len(s) != rowDigits {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// maxRows is how many rows of other handles are remembered. If one is forgotten, the
// heads of its packs are read again.
const maxRows = 256

// Rows are the rows of a bucket in a folder, as one handle sees them.
type Rows struct {
	disk      *disk.Disk
	smallest  int64 // smallestPack; tests make it smaller
	largest   int64 // largestPack; tests make it smaller
	mutations mutations
	noHoles   atomic.Bool    // the file system cannot punch holes
	slow      atomic.Bool    // it was logged that a pack has no index
	level     atomic.Int64   // see SetLevel
	sequences sync.Map       // prefixes, as strings: see Sequences
	wg        sync.WaitGroup // work of appenders in the background

	spareMu sync.Mutex
	spares  []*blank // guarded by spareMu: files of deleted packs, by size
	shut    bool     // guarded by spareMu: Close was called

	mu   sync.Mutex      // held while a row is made
	rows map[string]*row // guarded by mu: by folder
}

// New returns the rows in the folder of d.
func New(d *disk.Disk) *Rows {
	return &Rows{disk: d, smallest: smallestPack, largest: largestPack, rows: make(map[string]*row)}
}

// rowVersion is the version of the rows that this handle makes.
func (rs *Rows) rowVersion() uint32 {
	if rs.level.Load() >= 2 {
		return 2
	}
	return 1
}

// SetLevel sets the format level of what is kept in the bucket. From level 2 on, new
// rows are of version 2, which older programs do not know.
func (rs *Rows) SetLevel(level int) { rs.level.Store(int64(level)) }

// Sequences says that the objects below prefix, which ends with a slash, come in
// sequence: see storage.Sequences. Rows are made only there.
func (rs *Rows) Sequences(prefix string) { rs.sequences.Store(prefix, true) }

// inSequence reports whether the objects in a folder come in sequence.
func (rs *Rows) inSequence(folder string) bool {
	above, _ := path.Split(folder)
	_, told := rs.sequences.Load(above)
	return told
}

// row returns the row in a folder, or nil if there is none.
func (rs *Rows) row(folder string) (*row, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.loadRow(folder)
}

// loadRow is row for a caller that holds mu.
func (rs *Rows) loadRow(folder string) (*row, error) {
	if r := rs.rows[folder]; r != nil {
		return r, nil
	}
	r, err := rs.readRow(folder)
	if r == nil || err != nil {
		return nil, err
	}
	return rs.remember(r), nil
}

// joinRow returns the row in a folder. If there is none and the folder's objects come
// in sequence, it makes one, and this handle becomes its appender: .row is linked only
// once, in either version.
func (rs *Rows) joinRow(folder string) (*row, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r, err := rs.loadRow(folder); r != nil || err != nil || !rs.inSequence(folder) {
		return r, err
	}
	dir, err := rs.disk.OpenDir(folder)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	r := &row{rows: rs, disk: rs.disk, name: folder, version: rs.rowVersion()}
	rand.Read(r.id[:])
	switch err := rs.disk.Place(dir, r.path(makerName), encodeRow(r.id, r.version), disk.FilePerm, nil); {
	case errors.Is(err, unix.EEXIST):
		return rs.loadRow(folder)
	case err != nil:
		return nil, fmt.Errorf("make row: %w", err)
	}
	if err := r.linkNames(dir); err != nil {
		return nil, fmt.Errorf("make row: %w", err)
	}
	r.writer = newAppender(r)
	return rs.remember(r), nil
}

func (rs *Rows) remember(r *row) *row {
	if len(rs.rows) >= maxRows {
		for name, old := range rs.rows {
			if old.writer == nil || old.writer.isClosed() {
				delete(rs.rows, name)
			}
			if len(rs.rows) < maxRows {
				break
			}
		}
	}
	rs.rows[r.name] = r
	return r
}

// forget drops a row whose folder was removed.
func (rs *Rows) forget(r *row) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.rows[r.name] == r {
		delete(rs.rows, r.name)
	}
}

// Create implements storage.Bucket's Create for a key that a row may have. Only the
// appender creates in an open row; any other handle closes the row first. So a number
// is never in a pack and the name of a file at once.
func (rs *Rows) Create(ctx context.Context, key string, body []byte, mode fs.FileMode) error {
	folder, number, _ := splitRow(key)
	r, err := rs.joinRow(folder)
	if err != nil {
		return err
	}
	if r == nil {
		return rs.createAlone(key, folder, body, mode)
	}
	if r.writer != nil {
		if err := r.writer.create(key, number, body, storage.Sum(ctx, body)); !errors.Is(err, errClosed) {
			return err
		}
	}
	taken, err := r.takenOrClosed(number)
	if err != nil {
		return err
	}
	if taken {
		return storage.ErrExists
	}
	return rs.disk.Create(key, body, disk.FilePerm, nil)
}

// createAlone creates an object that does not come in sequence, as a file. An appender
// looks for the file of a number after it has made the row. So if there is no row when
// the file is there, no row will ever have its number. If there is one, the appender
// may have been faster: another Create of the same object tells.
func (rs *Rows) createAlone(key, folder string, body []byte, mode fs.FileMode) error {
	if err := rs.disk.Create(key, body, mode, nil); err != nil {
		return err
	}
	r, err := rs.row(folder)
	if r == nil && err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("%w: another process makes a row of %s and this one was not told that its objects come in sequence",
		storage.ErrUnknown, folder), err)
}

// Get implements storage.Bucket's Get for the key of a row.
func (rs *Rows) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	folder, number, _ := splitRow(key)
	r, err := rs.row(folder)
	if err != nil {
		return nil, err
	}
	if r != nil {
		if body, found, err := r.get(ctx, number, off, n); found || err != nil {
			return body, err
		}
	}
	body, err := rs.disk.Get(key, off, n)
	if !errors.Is(err, fs.ErrNotExist) {
		return body, err
	}
	if r == nil {
		if r, err = rs.row(folder); err != nil {
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

// Names returns the names of the objects in the packs of a folder.
func (rs *Rows) Names(ctx context.Context, folder string) ([]string, error) {
	r, err := rs.row(folder)
	if r == nil || err != nil {
		return nil, err
	}
	if err := r.waitFor(ctx); err != nil {
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
	if err := r.forgetRemoved(); err != nil {
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

// Delete deletes the keys that are in packs, and returns the others.
func (rs *Rows) Delete(ctx context.Context, keys []string) (rest []string, err error) {
	numbers := make(map[string][]uint64)
	for _, key := range keys {
		if folder, number, ok := splitRow(key); ok {
			numbers[folder] = append(numbers[folder], number)
		} else {
			rest = append(rest, key)
		}
	}
	for folder, of := range numbers {
		slices.Sort(of)
		left, err := rs.deleteFromRow(ctx, folder, slices.Compact(of))
		if err != nil {
			return nil, err
		}
		for _, number := range left {
			rest = append(rest, folder+"/"+formatNumber(number))
		}
	}
	return rest, nil
}

// Deleted returns the key of a row with that prefix, not less than from, that was
// deleted from a pack that still exists; "" if there is none. See storage.Deleted.
func (rs *Rows) Deleted(ctx context.Context, prefix, from string) (string, error) {
	folder, first, ok := splitRow(from)
	if !ok || prefix != folder+"/" {
		return "", nil
	}
	r, err := rs.row(folder)
	if r == nil || err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refresh(); err != nil {
		return "", err
	}
	for number := range r.index {
		if number < first {
			continue
		}
		if at, found, err := r.lookup(number); err != nil {
			return "", err
		} else if at.pack != nil && !found {
			return folder + "/" + formatNumber(number), nil
		}
	}
	return "", nil
}

// sweepOthers removes empty packs from closed rows of other handles, and punches holes
// that are missing there. When their records
// were deleted, these packs were the last of an open row, and nothing is deleted there
// any more. It runs when this handle fills a row of its own, not when it closes one: a
// process that closes may find that something is missing, and then nothing is removed.
// What cannot be removed now stays until this handle fills another row.
func (rs *Rows) sweepOthers() {
	rs.mu.Lock()
	var others []*row
	for _, r := range rs.rows {
		if r.writer == nil {
			others = append(others, r)
		}
	}
	rs.mu.Unlock()
	for _, r := range others {
		r.mu.Lock()
		if r.end != nil && r.endSynced {
			_ = r.sweep(nil)
		}
		r.mu.Unlock()
		_ = r.punchHoles()
	}
}

// Reserved reports whether a name in the folder of a row is one of the row's own files.
// No object can have such a name.
func Reserved(name string) bool {
	for _, stem := range []string{packStem, goneStem} {
		if digits, ok := strings.CutPrefix(name, stem); ok {
			_, ok = parseNumber(digits)
			return ok
		}
	}
	return name == rowName || name == closeName || name == endName
}

// Close ends appending to packs and closes all files. It waits for calls under way. A
// Create after Close closes the row.
func (rs *Rows) Close() {
	rs.spareMu.Lock()
	rs.shut = true
	spares := rs.spares
	rs.spares = nil
	rs.spareMu.Unlock()
	for _, s := range spares {
		s.drop()
	}
	rs.mu.Lock()
	for _, r := range rs.rows {
		if r.writer != nil {
			r.writer.shut()
		}
	}
	rs.mu.Unlock()
	rs.wg.Wait()
}
