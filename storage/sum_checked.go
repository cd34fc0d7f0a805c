//go:build weirtest

package storage

// checkSums makes WithSum verify the sum: with a wrong one, an acknowledged object
// looks torn.
const checkSums = true
