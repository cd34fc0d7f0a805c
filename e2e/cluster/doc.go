// Package cluster tests several weir-cloud processes on one bucket, each on a machine
// of its own, under real clients and under faults: killed, frozen and restarted nodes,
// cuts between nodes, cuts from the bucket, and cuts in one direction only.
//
// The machines are network namespaces on one bridge (lab_test.go). A round starts nodes
// on a bucket (nodes_test.go), runs every kind of work at once (work_test.go and the
// files named after the work), injects one fault after another (faults_test.go), heals
// everything, and then lets each work judge what it was told against what is in the
// streams. All judge sets and order, never time. rounds_test.go chooses the rounds; the
// seed of each is in the log, and WEIR_SEED repeats it.
package cluster
