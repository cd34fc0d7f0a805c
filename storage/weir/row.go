package weir

// Row says that the records of a topic in a stream are spread over Partitions
// partitions from sequence From on.
type Row struct {
	Partitions int32
	From       uint64
}

// Before reports whether r came before s in a map table, which only grows.
func (r Row) Before(s Row) bool {
	return r.From < s.From || r.From == s.From && r.Partitions < s.Partitions
}

// Maps reports whether r can have mapped the record at seq to this partition.
func (r Row) Maps(partition int32, seq uint64) bool {
	return partition < r.Partitions && r.From > 0 && r.From <= seq
}

// MapRow is a row of a gateway's map table: which stream and which topic it is for.
// The last row that applies to a sequence counts.
type MapRow struct {
	Buffer BufferID
	Lane   Lane
	Topic  TopicID
	Name   string // of the topic
	Row
}
