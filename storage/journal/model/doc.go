// Package model checks the rules of the journal by trying everything.
//
// Its tests hold a model of storage/journal, a bucket and some nodes, small enough to
// be searched completely: every state that any order of steps can lead to. Each Create
// and Delete may arrive at any later time, once, twice or never, and each process may
// sleep or die between any two steps. In every state, what a recovery that starts now
// would read is compared with everything that was acknowledged, recovered, saved or
// read before.
//
// TestWorlds searches worlds that keep the rules and finds nothing. TestMutations
// breaks one rule at a time, and the search prints the shortest path to the failure.
// TestReduction shows that the search leaves out only states that no step can tell apart.
// TestConformance replaces one node by the real journal and compares each of its calls
// with the model's.
//
// README.md beside this file says what the model contains and leaves out, how large the
// worlds are, and which function of the journal each step stands for.
package model
