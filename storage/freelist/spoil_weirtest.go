//go:build weirtest

package freelist

// spoil overwrites what was returned, so that a test finds out if somebody still refers
// to it.
func spoil(p []byte) {
	for i := range p {
		p[i] = 0xdb
	}
}
