package weir

// Stream is one lane of one buffer of a gateway: a sequence that starts at 1 and
// only grows.
type Stream struct {
	Gateway string
	Buffer  BufferID
	Lane    Lane
}

// Mark is how far a stream of a gateway is durable in one partition: Last is the
// last sequence that is in the log there. A partition without a mark has nothing
// of the stream.
type Mark struct {
	Buffer    BufferID
	Lane      Lane
	Topic     TopicID
	Partition int32
	Last      uint64
}
