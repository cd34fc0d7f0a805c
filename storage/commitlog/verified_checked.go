//go:build weirtest

package commitlog

// checkVerified makes the log verify a batch whose sender says that it has done so: if it
// has not, damaged bytes are stored.
const checkVerified = true
