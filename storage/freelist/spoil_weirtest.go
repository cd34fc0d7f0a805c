//go:build weirtest

package freelist

// spoil overwrites what was returned, so that a test finds out if somebody still refers
// to it.
func spoil(p []byte) {
	p[0] = 0xdb
	for n := 1; n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
}
