package s3test

import "testing"

// Start starts a MinIO server on an empty temporary folder and puts its
// credentials into the environment of the test, for storage/s3 and for child
// processes. It looks for the program at $WEIR_MINIO, else at
// ~/.cache/weir/bin/minio. When there is none the test is skipped, or fails if
// WEIR_REQUIRE_SERVICES is 1.
func Start(t testing.TB) *Server {
	t.Helper()
	return program{
		name:     "MinIO",
		variable: "WEIR_MINIO",
		file:     "minio",
		module:   "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
		command: func(address, folder string) []string {
			return []string{"server", "--quiet", "--address", address, folder}
		},
		env: func(password string) []string {
			return []string{"MINIO_ROOT_USER=" + user, "MINIO_ROOT_PASSWORD=" + password,
				"MINIO_BROWSER=off", "MINIO_UPDATE=off"}
		},
	}.start(t)
}
