// Package record is Kafka's RecordBatch v2: the one form in which messages
// travel through Weir and lie at rest in it.
//
// A Batch is the bytes themselves. Next cuts one off a buffer, Verify proves
// it against its CRC32C, Each walks its records, SetBaseOffset and
// SetLeaderEpoch place it in a log without touching what the CRC covers. A
// Builder makes a batch, Merge makes one out of many small ones.
//
// Every function that reads accepts hostile bytes: lengths are compared with what is
// there before anything is allocated, inflated data has a hard cap that the caller
// names, and no input panics. The byte table is in README.md; the format is described
// at https://kafka.apache.org/documentation/#recordbatch, in KIP-98 and KIP-320.
package record
