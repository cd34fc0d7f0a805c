package weir

// Slices is how many slices a cluster has, for ever. Every partition, group,
// transactional id and gateway belongs to one of them for ever; which shard has a slice
// may change: never compute a shard from it.
const Slices = 1024

// Slice is one of them, 0 to Slices-1.
type Slice uint16

// SliceOf is the slice of a partition. Those of one topic lie in a row.
func SliceOf(topic TopicID, partition int32) Slice {
	return Slice((fnv1a(fnvStart, topic[:]) + uint32(partition)) % Slices)
}

// SliceOfGroup is the slice of a consumer group.
func SliceOfGroup(id string) Slice { return sliceOf("group", id) }

// SliceOfTransaction is the slice of a transactional id.
func SliceOfTransaction(id string) Slice { return sliceOf("transactional-id", id) }

// SliceOfGateway is the slice of a gateway.
func SliceOfGateway(id string) Slice { return sliceOf("gateway", id) }

func sliceOf(kind, name string) Slice {
	return Slice(fnv1a(fnv1a(fnv1a(fnvStart, kind), "\x00"), name) % Slices)
}

const fnvStart = 2166136261

// fnv1a is the hash FNV-1a of 32 bits, without an allocation; h is that of what comes
// before s.
func fnv1a[T string | []byte](h uint32, s T) uint32 {
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}
