// Package model holds the randomised model test of sync.
//
// It runs the real sender, receiver, commit log, journal and local buffer in
// testing/synctest bubbles, over things that are simulated: the gateway's card
// (or the real edge/wal on a directory), the link, and the bucket's answers.
// One schedule is a list of events drawn from a seed: readings, kills of either
// end, cuts, zombies, PUTs that land late, slow and failing buckets, refusals,
// topics that grow or are deleted and created again, upkeep that rewrites the log
// At its end everything is healed, and these must hold:
//
//   - what was accepted was delivered or reported as a gap, and nothing that
//     was reported for certain was delivered;
//   - nothing was delivered twice into one life of a topic;
//   - per gateway, lane, topic and key the log has the order of acceptance;
//   - a new owner, which begins at the newest checkpoint, gives readers what was
//     written, even if upkeep has moved it;
//   - nothing is stuck: all buffers are trimmed, all but the newest are retired;
//   - check.Check finds no broken rule in the bytes at rest.
//
// In schedules of several shards there are three owners and two doors in the place of a
// node, and the paths between them break: see shards_test.go. Topics are not deleted there.
//
// TestMutations removes one rule at a time, and each time the same schedules must fail:
// a rule whose removal goes unnoticed is not tested.
//
// What was written is read from an archive of all slots that the bucket has ever held,
// not from what upkeep has left of the journal.
//
// A seed fixes the schedule and all latencies' odds, not the order in which
// goroutines run within one instant: WEIR_SEED runs its schedule many times.
// Upkeep is part of the schedule; no pass begins by itself.
package model
