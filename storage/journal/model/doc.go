// Package model checks the rules of the journal by trying everything.
//
// Its tests hold a model of what storage/journal does, a bucket and some nodes
// small enough to be searched to the end: every state that any order of steps
// can lead to, where each Create and Delete may arrive at any later time, once,
// twice or never, and each process may sleep or die between any two steps. In
// every state what somebody recovers who starts now is compared with all that
// was acknowledged, recovered, saved or read before.
//
// TestWorlds searches worlds that keep the rules and finds nothing. TestMutations
// breaks one rule at a time, and the search tells the shortest way to the harm.
// TestReduction shows that what the search leaves out is what nobody can see.
// TestConformance puts the real journal in the place of one node and compares
// each of its calls with the model's.
//
// README.md beside this file says what is in the model and what is not, how large
// the worlds are, and which function of the journal each step stands for.
package model
