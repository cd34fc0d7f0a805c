//go:build !weirtest

package commitlog

// checkVerified would do the work again that Append.Verified is there to save.
const checkVerified = false
