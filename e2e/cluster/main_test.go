package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inside is set in the environment of a process that has its own network namespace.
const inside = "WEIR_E2E_NETWORK"

// TestMain moves the whole test into a network namespace of its own, in which it may
// build a network without touching the machine's. Without the right to do that, the
// tests are skipped, or fail if WEIR_REQUIRE_SERVICES is set.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		if unshare, err := exec.LookPath("unshare"); err == nil && exec.Command(unshare, "--net", "true").Run() == nil {
			args := append([]string{unshare, "--net", "--", os.Args[0]}, os.Args[1:]...)
			err := syscall.Exec(unshare, args, append(os.Environ(), inside+"=1")) // does not return
			fmt.Fprintln(os.Stderr, "run the tests in a network namespace:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
