package commitlog

import (
	"fmt"

	"github.com/weirmq/weir/storage/weir"
)

// placeKey names a partition.
type placeKey struct {
	topic     weir.TopicID
	partition int32
}

// String says which partition it is, for errors and logs.
func (k placeKey) String() string {
	return fmt.Sprintf("partition %d of topic %v", k.partition, k.topic)
}

// producerKey names a producer's history in one partition.
type producerKey struct {
	place placeKey
	id    int64
}

// markKey names a mark.
type markKey struct {
	stream Stream
	place  placeKey
}

// bufferKey names a buffer of a gateway.
type bufferKey struct {
	gateway string
	buffer  weir.BufferID
}

// Place names a partition.
type Place struct {
	Topic     weir.TopicID
	Partition int32
}
