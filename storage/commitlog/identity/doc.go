// Package identity handles what makes a bucket one cluster: the object cluster, the
// format level, and the checksums of the objects beside the log that are created once.
package identity
