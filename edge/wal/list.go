package wal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// list is a small append-only file of frames of one kind: a buffer's map
// table, a lane's gaps, the retired buffers. It is for one goroutine at a
// time.
type list struct {
	disk *disk
	path string
	salt salt
	kind kind

	next  uint64 // number of the next frame
	torn  bool   // the file has bytes that are not a frame, or its last write failed
	fresh bool   // the file does not exist yet
}

// openList reads the list at path, which need not exist, and calls each with every
// intact body, oldest first. Damaged ones are skipped. The body is valid only during the
// call. An error of each means that the body is damaged too.
func openList(d *disk, path string, s salt, k kind, each func(body []byte) error) (*list, error) {
	l := &list{disk: d, path: path, salt: s, kind: k, next: 1}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		l.fresh = true
		return l, nil
	}
	if err != nil {
		if !unreadable(err) {
			return nil, err
		}
		l.torn = true
		return l, nil
	}
	l.torn = !eachFrame(data, s, func(h header, body []byte) error {
		l.next = max(l.next, h.first+1)
		if h.kind != k {
			return corrupt("frame of kind %d in %s", h.kind, filepath.Base(path))
		}
		return each(body)
	})
	return l, nil
}

// eachFrame calls fn with every intact frame in data. It reports whether data holds
// nothing else, and fn accepted all of them.
func eachFrame(data []byte, s salt, fn func(h header, body []byte) error) bool {
	src, off, whole := windowOn(data), int64(0), true
	for off < int64(len(data)) {
		h, at, ok, _ := findHeader(src, s, off)
		if !ok {
			return false
		}
		whole = whole && at == off
		body, ok, _ := readBody(src, h, at)
		if !ok || fn(h, body) != nil {
			whole = false
		}
		off = h.end(at)
		if !ok {
			// An append may have followed a torn one: what the header says
			// about its length is then no help.
			off = at + headerSize
		}
	}
	return whole
}

// append adds a frame; durable on return. After an error, or if the file was found
// damaged, the next call rewrites the whole list: only then it calls all, which
// returns the list so far.
func (l *list) append(body []byte, all func(add func(body []byte))) error {
	if l.torn {
		return l.rewrite(func(add func([]byte)) {
			all(add)
			add(body)
		})
	}
	frame := l.frame(nil, body)
	l.torn = true
	if err := l.write(frame); err != nil {
		return err
	}
	if l.fresh {
		if err := l.disk.syncDir(filepath.Dir(l.path)); err != nil {
			return err
		}
	}
	l.torn, l.fresh = false, false
	return nil
}

// rewrite replaces the file by what all adds; durable on return.
func (l *list) rewrite(all func(add func(body []byte))) error {
	l.next, l.torn = 1, true
	var data []byte
	all(func(body []byte) { data = l.frame(data, body) })
	if err := l.disk.replace(l.path, data); err != nil {
		return err
	}
	l.torn, l.fresh = false, false
	return nil
}

// frame appends the next frame to dst.
func (l *list) frame(dst, body []byte) []byte {
	at := len(dst)
	dst = append(openFrame(dst), body...)
	sealFrame(dst, at, l.salt, l.kind, l.next, 1)
	l.next++
	return dst
}

// write appends p to the file and syncs it.
func (l *list) write(p []byte) error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	err = l.disk.do(stepList, l.path, func() error {
		_, err := f.Write(p)
		return err
	})
	if err != nil {
		return err
	}
	return l.disk.do(stepListSync, l.path, f.Sync)
}
