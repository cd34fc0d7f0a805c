//go:build !weirtest

package freelist

func spoil([]byte) {}
