// Package identity is what makes a bucket one cluster: the object cluster, the format
// level, and the checksums of objects beside the log that are made once.
package identity
