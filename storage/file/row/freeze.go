package row

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage/file/disk"
)

// closing reports whether a process has begun to close the row.
func (r *row) closing() (bool, error) { return disk.Exists(r.file(closeName)) }

// closed is closing for a reader: a row that has its end is closed, even if the file
// `close` was removed by hand.
func (r *row) closed() (bool, error) {
	closing, err := r.closing()
	if closing || err != nil {
		return closing, err
	}
	return disk.Exists(r.file(endName))
}

// freeze closes the row and reads for good what is in its packs. A closer first links
// `close` and then reads the packs; the appender first writes a group and then checks
// for `close`. So either the closer reads the group, or the appender does not
// acknowledge it before it has seen where the row ends. The first `end` is the one that
// counts.
//
// A crash leaves only `close`: the next process that finds it continues. The caller
// holds mu. An error with r.end set means only that `end` may not be durable.
func (r *row) freeze() error {
	if r.endSynced {
		return nil
	}
	dir, err := os.Open(r.path(""))
	if err != nil {
		return err
	}
	defer dir.Close()
	if r.end == nil {
		end, err := r.readEnd()
		if errors.Is(err, fs.ErrNotExist) {
			// Another process may have been faster, and may have removed packs since.
			failed := r.makeEnd(dir)
			if end, err = r.readEnd(); err != nil {
				err = cmp.Or(failed, err)
			}
		}
		if err != nil {
			return err
		}
		if err := r.loadTo(end); err != nil {
			return err
		}
		r.end = &end
	}
	if err := r.disk.SyncDir(dir); err != nil {
		return err
	}
	r.endSynced = true
	return nil
}

func (r *row) readEnd() (rowEnd, error) {
	p, err := os.ReadFile(r.file(endName))
	if err != nil {
		return rowEnd{}, err
	}
	end, err := decodeEnd(p, r.id)
	if err != nil {
		return rowEnd{}, fmt.Errorf("%s: %w", r.file(endName), err)
	}
	return end, nil
}

// makeEnd finds out where the row ends and links `end`.
func (r *row) makeEnd(dir *os.File) error {
	seen := &row{rows: r.rows, disk: r.disk, name: r.name, id: r.id, version: r.version}
	if r.rows.mutations.readFirst() {
		if err := seen.follow(); err != nil {
			return err
		}
	}
	r.rows.mutations.at("flag")
	if err := unix.Link(r.file(rowName), r.file(closeName)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("link %s: %w", closeName, err)
	}
	if err := r.disk.SyncDir(dir); err != nil {
		return err
	}
	r.rows.mutations.at("read")
	if !r.rows.mutations.readFirst() {
		if err := seen.follow(); err != nil {
			return err
		}
	}
	var end rowEnd
	if n := len(seen.packs); n > 0 {
		last := seen.packs[n-1]
		if err := r.syncPack(last.number); err != nil {
			return err
		}
		end = rowEnd{last.number, last.end}
	}
	r.rows.mutations.at("end")
	if err := r.disk.Place(dir, r.file(endName), encodeEnd(end, r.id), disk.FilePerm, nil); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("link %s: %w", endName, err)
	}
	return nil
}

// loadTo replaces what is known of the packs by their content up to end.
func (r *row) loadTo(end rowEnd) error {
	for range 100 {
		r.packs, r.index, r.damage = nil, nil, nil
		err := r.loadOnce(end)
		if err == nil {
			r.publish()
		}
		if !errors.Is(err, errPackRemoved) {
			return err
		}
	}
	return errChanging
}

func (r *row) loadOnce(end rowEnd) error {
	numbers, m, err := r.survey(&end)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n > end.pack {
			break // from an appender that had not seen `close` yet
		}
		if err := r.addPack(n); err != nil {
			return err
		}
	}
	for i, p := range r.packs {
		if p.number == end.pack {
			if err := r.scan(p, end.off); err != nil {
				return err
			}
			continue
		}
		var limit int64
		if i+1 < len(r.packs) && r.packs[i+1].number == p.number+1 {
			limit = r.packs[i+1].before
		} else {
			var alone bool
			if limit, alone = m.alone[p.number+1]; !alone {
				return errPackRemoved // and so was the next one
			}
		}
		if err := r.load(p, limit); err != nil {
			return err
		}
	}
	return nil
}
