package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weirmq/weir/storage/weir"
)

const letterSuffix = ".dead"

// letterFiles are the numbered files of a folder of letters, dead or refused. Each file
// is appended to by one open only. They are for one goroutine at a time.
type letterFiles struct {
	disk *disk
	dir  string
	part byte // of the salt
	kind kind // of the frames

	file *os.File // the newest one; nil: the next frame begins a new one
	next uint64   // number of the next frame in it
}

func (n *letterFiles) path(number uint64) string {
	return filepath.Join(n.dir, fmt.Sprintf("%08d%s", number, letterSuffix))
}

// numbers lists the files, oldest first. Files with other names are ignored.
func (n *letterFiles) numbers() ([]uint64, error) {
	entries, err := os.ReadDir(n.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		number, err := strconv.ParseUint(strings.TrimSuffix(e.Name(), letterSuffix), 10, 64)
		if err == nil && n.path(number) == filepath.Join(n.dir, e.Name()) {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// each calls fn with the bodies of the intact frames of a file. Damaged ones are skipped.
// A file that cannot be read has none.
func (n *letterFiles) each(number uint64, fn func(count uint32, body []byte) error) error {
	var w window
	if err := w.open(n.path(number)); err != nil {
		if unreadable(err) {
			return nil
		}
		return err
	}
	defer w.close()
	s := saltOf(weir.BufferID{}, n.part)
	for off := int64(0); ; {
		h, at, ok, err := findHeader(&w, s, off)
		if !ok || err != nil {
			return err
		}
		off = h.end(at)
		body, ok, err := readBody(&w, h, at)
		if err != nil {
			return err
		}
		if !ok || h.kind != n.kind {
			continue
		}
		if err := fn(h.count, body); err != nil {
			return err
		}
	}
}

// begin makes a file, which the next frames go to. Its name is durable on return. made
// reports whether the number is used, which it may be even after an error.
func (n *letterFiles) begin(number uint64) (made bool, err error) {
	n.close()
	if err := n.disk.mkdir(n.dir); err != nil {
		return false, err
	}
	f, err := os.OpenFile(n.path(number), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return errors.Is(err, fs.ErrExist), err
	}
	if err := n.disk.syncDir(n.dir); err != nil {
		f.Close()
		return true, err
	}
	n.file, n.next = f, 1
	return true, nil
}

// append writes a frame, which begins with the room that openFrame made, to the newest
// file; durable on return. After an error the file is not used any more.
func (n *letterFiles) append(frame []byte, count int) error {
	sealFrame(frame, 0, saltOf(weir.BufferID{}, n.part), n.kind, n.next, uint32(count))
	f, path := n.file, n.file.Name()
	n.file = nil
	err := n.disk.do(stepList, path, func() error {
		_, err := f.Write(frame)
		return err
	})
	if err == nil {
		err = n.disk.do(stepListSync, path, func() error { return dataSync(f) })
	}
	if err != nil {
		f.Close()
		return err
	}
	n.file = f
	n.next++
	return nil
}

// remove deletes a file. It is not an error if the file is gone already.
func (n *letterFiles) remove(number uint64) error {
	path := n.path(number)
	err := n.disk.do(stepRemove, path, func() error { return os.Remove(path) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// close closes the newest file.
func (n *letterFiles) close() {
	if n.file != nil {
		n.file.Close()
		n.file = nil
	}
}
