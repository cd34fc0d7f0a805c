package s3test

import "testing"

// StartVersity is Start with versitygw, which keeps objects as files of their
// names. It looks for the program at $WEIR_VERSITYGW, else at
// ~/.cache/weir/bin/versitygw. The temporary folder has to be on a file system
// with extended attributes. It never syncs a file: its objects survive its own
// death, not that of the machine.
func StartVersity(t testing.TB) *Server {
	t.Helper()
	return program{
		name:     "versitygw",
		variable: "WEIR_VERSITYGW",
		file:     "versitygw",
		module:   "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
		command: func(address, folder string) []string {
			return []string{"--port", address, "--quiet", "posix", folder}
		},
		env: func(password string) []string {
			return []string{"ROOT_ACCESS_KEY=" + user, "ROOT_SECRET_KEY=" + password}
		},
	}.start(t)
}
