// Package uplink is what lies between the sessions of gateways and the shards that take
// their records. It knows neither the network nor the log.
//
// # The way of a batch
//
// A gateway has one session, at any node: the door. The partitions to which it writes lie
// in several shards, each with an owner. So a session attaches to every shard (Door), and
// each batch goes to the shard that has its partition, over an Attachment. The Owner of a
// shard hands to the log only what the newest session of a gateway sends.
//
// # The rules
//
// Each is there because without it a schedule was found that loses or doubles a record, or
// never ends. A Mutations can break each one, so that a test can show that it notices.
//
//   - A session begins when every shard has told its marks. A card that was put back may
//     hold records that were reported as a gap, and only the shard of that gap knows it.
//   - An owner tells marks only when the log has answered all that earlier sessions of the
//     gateway have handed over.
//   - An owner hears only the newest session of a gateway.
//   - Sessions are numbered, and an older one cannot attach after a newer one.
//   - When a shard moves, the session goes on: it attaches to the new owner, and each batch
//     that was not answered is refused with ErrMoved. The mark is told when it is attached. Other batches of the same partition
//     and round are refused, too: the gateway takes back the round as a whole.
//   - A buffer that is retired in one shard is retired in all.
//   - No shard has more batches in flight than leave room for the others (Window). What is
//     beyond that is refused if the shard has been silent for two seconds.
//
// If there is one shard only, a session ends when that moves, and the gateway dials again.
package uplink
