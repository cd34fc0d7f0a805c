package weir

// Gap says that the records of the sequences First to Last of a stream are missing.
type Gap struct {
	First, Last uint64
	Reason      string // for people, at most 200 bytes
	Exact       bool   // each of the sequences was a record; if false, the gateway does not know how many were
}
