package engine

import (
	"fmt"
	"os"
	"syscall"
)

// syncer is the limit of a disk: it writes what collects while it syncs to a file
// whose blocks are there already, and syncs once for all of it.
type syncer struct {
	f       *os.File
	waiting chan write
	ended   chan struct{} // closed when run has returned
}

type write struct {
	body []byte
	done func(error)
}

// syncerSize is how many bytes the file has. It is written over again and again.
const syncerSize = 64 << 20

func openSyncer(path string) (*syncer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for range syncerSize / len(zeros) {
		if _, err := f.Write(zeros); err != nil {
			return nil, fmt.Errorf("fill %s: %w", path, err)
		}
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("sync %s: %w", path, err)
	}
	s := &syncer{f: f, waiting: make(chan write, 1024), ended: make(chan struct{})}
	go s.run()
	return s, nil
}

// close waits until all is written.
func (s *syncer) close() error {
	close(s.waiting)
	<-s.ended
	return s.f.Close()
}

func (s *syncer) run() {
	defer close(s.ended)
	at := int64(0)
	buf := make([]byte, 0, 8<<20)
	var dones []func(error)
	for w := range s.waiting {
		buf, dones = append(buf[:0], w.body...), append(dones[:0], w.done)
		for more := true; more && len(buf) < 4<<20; {
			select {
			case w, open := <-s.waiting:
				if more = open; open {
					buf, dones = append(buf, w.body...), append(dones, w.done)
				}
			default:
				more = false
			}
		}
		if at+int64(len(buf)) > syncerSize {
			at = 0
		}
		_, err := s.f.WriteAt(buf, at)
		if err == nil {
			err = syscall.Fdatasync(int(s.f.Fd()))
		}
		at += int64(len(buf))
		for _, done := range dones {
			done(err)
		}
	}
}
