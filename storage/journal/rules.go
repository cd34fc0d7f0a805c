package journal

// rules names what a test breaks on purpose, to see that the random schedules
// notice it. The zero value keeps every rule; nothing but tests sets a field.
type rules struct {
	ackOutOfOrder  bool // a slot is acknowledged as soon as it is durable itself
	sealNewestOnly bool // of the earlier epochs only the newest one gets a SEAL
	holeIsEnd      bool // a missing slot ends an epoch without a SEAL
	sealUnread     bool // a SEAL that meets ErrExists counts as placed
	existsIsMine   bool // a slot that meets ErrExists counts as written
	claimUnread    bool // a claim that meets ErrExists counts as made
	headerLate     bool // slots are written before the header is durable
	resumeByNode   bool // a node whose name is in the newest claim goes on under it
	unknownIsDone  bool // an unknown outcome counts as success

	noSecondList    bool // the checkpoints are not listed again after the walk
	differIsCorrupt bool // what only a checkpoint can explain is taken for damage, without a List
	saveUnacked     bool // a checkpoint may hold slots that are still flying
	deleteEarly     bool // slots and older checkpoints are deleted when the checkpoint has been sent
	deleteBeyond    bool // slots at and behind the checkpoint are deleted, too
	deleteSeals     bool // SEALs are deleted like DATA
	noTombstone     bool // slots are deleted while older checkpoints may be there, or appear again
	startUnread     bool // a replay does not look whether its start is still there
	lossUnread      bool // an owner takes what is missing for what was never there
	graveUnread     bool // a replay does not look for tombstones
}
