//go:build !weirtest

package journal

// mutations break single rules of the journal. They exist only in a build with the tag
// weirtest, see mutations_weirtest.go; here the compiler drops their code. They are
// read through functions, because names of methods would stay in the binary.
type mutations struct{}

func ackOutOfOrder(mutations) bool     { return false }
func sealNewestOnly(mutations) bool    { return false }
func holeIsEnd(mutations) bool         { return false }
func sealUnread(mutations) bool        { return false }
func existsIsMine(mutations) bool      { return false }
func claimUnread(mutations) bool       { return false }
func headerLate(mutations) bool        { return false }
func resumeByNode(mutations) bool      { return false }
func unknownIsDone(mutations) bool     { return false }
func noSecondList(mutations) bool      { return false }
func differIsCorrupt(mutations) bool   { return false }
func saveUnacked(mutations) bool       { return false }
func deleteEarly(mutations) bool       { return false }
func deleteBeyond(mutations) bool      { return false }
func deleteSeals(mutations) bool       { return false }
func noTombstone(mutations) bool       { return false }
func startUnread(mutations) bool       { return false }
func lossUnread(mutations) bool        { return false }
func tombstoneUnread(mutations) bool   { return false }
func supersededUnread(mutations) bool  { return false }
func sealTrusted(mutations) bool       { return false }
func headerAsked(mutations) bool       { return false }
func flyingUnread(mutations) bool      { return false }
func yieldUnacked(mutations) bool      { return false }
func resumeUnacked(mutations) bool     { return false }
func removeBeyond(mutations) bool      { return false }
func removeNoTombstone(mutations) bool { return false }
