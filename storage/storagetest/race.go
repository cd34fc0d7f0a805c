//go:build race

package storagetest

// Race says whether the race detector is on, which makes tests some ten times slower.
const Race = true
