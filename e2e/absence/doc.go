// Package absence holds tests that damage a bucket at rest: every object, or
// every file of a folder bucket, is deleted, emptied, cut, changed in one byte, or
// replaced by an older copy, alone and in pairs. They also take copies of a bucket
// while a node writes, and treat those as damaged ones.
//
// After each damage a node starts as weir-cloud does. It comes up with all that was
// acknowledged, or it reports what is missing, or it refuses to start with an
// error that names the object; and it destroys nothing more. weirctl check says
// beforehand what the node will do.
//
// world_test.go makes the bucket, node_test.go starts a node and reads all of it,
// damage_test.go lists the cells, judge_test.go says what is right, matrix_test.go
// and copy_test.go are the tests. exceptions_test.go names the cells of which no
// remaining object can show the damage, with the reasons.
package absence
