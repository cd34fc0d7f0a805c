//go:build weirtest

package storage

// checkSums makes WithSum prove what it is told: a wrong sum makes an object that was
// acknowledged look torn.
const checkSums = true
