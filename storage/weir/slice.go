package weir

// Slices is the number of slices of a cluster. It never changes. Every partition,
// group, transactional id, gateway and vhost belongs to one slice for ever. The shard that has
// a slice can change: never compute a shard from a slice.
const Slices = 1024

// Slice is the number of a slice, 0 to Slices-1.
type Slice uint16

// MaxShards is the largest number of shards that a cluster can be created with: shard 0
// and one for each slice.
const MaxShards = 1 + Slices

// Map says for each slice which shard has it.
type Map [Slices]uint32

// FirstMap returns the map of a new cluster. With one shard that has all slices. With
// more, shard 0 is the catalogue and has none; the others have them in turns.
func FirstMap(shards int) Map {
	var m Map
	if shards < 2 {
		return m
	}
	for i := range m {
		m[i] = uint32(1 + i%(shards-1))
	}
	return m
}

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

// SliceOfVhost is the slice of a vhost, and of the partition of its topic.
func SliceOfVhost(name string) Slice { return sliceOf("vhost", name) }

func sliceOf(kind, name string) Slice {
	return Slice(fnv1a(fnv1a(fnv1a(fnvStart, kind), "\x00"), name) % Slices)
}

const fnvStart = 2166136261

// fnv1a returns the 32-bit FNV-1a hash of s, continued from the hash h, without
// allocating.
func fnv1a[T string | []byte](h uint32, s T) uint32 {
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}
