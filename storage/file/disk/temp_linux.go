package disk

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// openNameless makes a file that has no name: open(2), O_TMPFILE. If it is closed, or
// the process dies, before linkNameless, it is gone.
func openNameless(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_TMPFILE|os.O_WRONLY, FilePerm)
}

// linkNameless gives such a file its name. It links through /proc, the only way that
// needs no privilege, see open(2).
func linkNameless(f *os.File, target string) error {
	self := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	return unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, target, unix.AT_SYMLINK_FOLLOW)
}
