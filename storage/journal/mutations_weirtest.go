//go:build weirtest

package journal

// mutations break single rules of the journal, so that a test can show that it notices.
// They are there in a build with the tag weirtest only.
type mutations struct {
	AckOutOfOrder  bool // a slot is acknowledged as soon as it is durable itself
	SealNewestOnly bool // of the earlier epochs only the newest one gets a SEAL
	HoleIsEnd      bool // a missing slot ends an epoch without a SEAL
	SealUnread     bool // a SEAL that meets ErrExists counts as placed
	ExistsIsMine   bool // a slot that meets ErrExists counts as written
	ClaimUnread    bool // a claim that meets ErrExists counts as made
	HeaderLate     bool // slots are written before the header is durable
	ResumeByNode   bool // a node whose name is in the newest claim goes on under it
	UnknownIsDone  bool // an unknown outcome counts as success

	NoSecondList      bool // the checkpoints are not listed again after the walk
	DifferIsCorrupt   bool // what only a checkpoint can explain is taken for damage, without a List
	SaveUnacked       bool // a checkpoint may hold slots that are not acknowledged
	DeleteEarly       bool // slots and older checkpoints are deleted when the checkpoint has been sent
	DeleteBeyond      bool // slots at and behind the checkpoint are deleted, too
	RemoveBeyond      bool // Remove deletes slots at and behind the checkpoint, too
	RemoveNoTombstone bool // Remove does not check for older checkpoints
	DeleteSeals       bool // SEALs are deleted like DATA
	NoTombstone       bool // slots are deleted while older checkpoints may be there, or appear again
	StartUnread       bool // a replay does not check whether its start is still there
	LossUnread        bool // an owner takes what is missing for what never existed
	TombstoneUnread   bool // a replay does not look for tombstones
	SupersededUnread  bool // a claimant takes what is missing for lost, and there is a higher claim
	SealTrusted       bool // a candidate trusts every SEAL

	HeaderAsked   bool // under the claim that it expects it looks for the header of that, not for SEALs of its own epoch
	FlyingUnread  bool // it does not look for SEALs in the place of slots in flight
	YieldUnacked  bool // an owner that yields takes slots in flight for acknowledged
	ResumeUnacked bool // an owner that resumes takes the slots for acknowledged that it has sent
}

func ackOutOfOrder(m mutations) bool     { return m.AckOutOfOrder }
func sealNewestOnly(m mutations) bool    { return m.SealNewestOnly }
func holeIsEnd(m mutations) bool         { return m.HoleIsEnd }
func sealUnread(m mutations) bool        { return m.SealUnread }
func existsIsMine(m mutations) bool      { return m.ExistsIsMine }
func claimUnread(m mutations) bool       { return m.ClaimUnread }
func headerLate(m mutations) bool        { return m.HeaderLate }
func resumeByNode(m mutations) bool      { return m.ResumeByNode }
func unknownIsDone(m mutations) bool     { return m.UnknownIsDone }
func noSecondList(m mutations) bool      { return m.NoSecondList }
func differIsCorrupt(m mutations) bool   { return m.DifferIsCorrupt }
func saveUnacked(m mutations) bool       { return m.SaveUnacked }
func deleteEarly(m mutations) bool       { return m.DeleteEarly }
func deleteBeyond(m mutations) bool      { return m.DeleteBeyond }
func deleteSeals(m mutations) bool       { return m.DeleteSeals }
func noTombstone(m mutations) bool       { return m.NoTombstone }
func startUnread(m mutations) bool       { return m.StartUnread }
func lossUnread(m mutations) bool        { return m.LossUnread }
func tombstoneUnread(m mutations) bool   { return m.TombstoneUnread }
func supersededUnread(m mutations) bool  { return m.SupersededUnread }
func sealTrusted(m mutations) bool       { return m.SealTrusted }
func headerAsked(m mutations) bool       { return m.HeaderAsked }
func flyingUnread(m mutations) bool      { return m.FlyingUnread }
func yieldUnacked(m mutations) bool      { return m.YieldUnacked }
func resumeUnacked(m mutations) bool     { return m.ResumeUnacked }
func removeBeyond(m mutations) bool      { return m.RemoveBeyond }
func removeNoTombstone(m mutations) bool { return m.RemoveNoTombstone }
