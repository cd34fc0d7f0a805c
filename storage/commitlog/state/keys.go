package state

import (
	"fmt"

	"github.com/weirmq/weir/storage/weir"
)

// Place names a partition.
type Place struct {
	Topic     weir.TopicID
	Partition int32
}

// String says which partition it is, for errors and logs.
func (k Place) String() string {
	return fmt.Sprintf("partition %d of topic %v", k.Partition, k.Topic)
}

// ProducerKey names a producer's history in one partition.
type ProducerKey struct {
	Place Place
	ID    int64
}

// MarkKey names a mark.
type MarkKey struct {
	Stream weir.Stream
	Place  Place
}

// BufferKey names a buffer of a gateway.
type BufferKey struct {
	Gateway string
	Buffer  weir.BufferID
}
