package storagetest

import "testing"

// Rounds returns how many of the rounds of a random or exhaustive test to run: all, or a
// quarter with the race detector or -short. What it leaves out is run without the race
// detector, see Makefile.
func Rounds(all int) int {
	if Race || testing.Short() {
		return max(1, all/4)
	}
	return all
}
