package state

import "fmt"

// Kinds of entries: the one table of all of them. Those below FirstMachineKind are the
// log's own, the others belong to the Machines. FORMAT.md has the same table, and the
// bytes.
const (
	KindTopicCreated  uint16 = 1
	KindTopicDeleted  uint16 = 2
	KindTopicGrown    uint16 = 3
	KindRun           uint16 = 4
	KindBufferRetired uint16 = 5
	KindProducerIDs   uint16 = 6
	KindInstalled     uint16 = 7
	KindTrimmed       uint16 = 8
	KindSwept         uint16 = 9
	KindTopicAltered  uint16 = 10

	// Of level 2. 18 is reserved: see reserved.
	KindTopicDeleting    uint16 = 11
	KindTopicOpened      uint16 = 12
	KindTopicDropped     uint16 = 13
	KindSliceMap         uint16 = 14
	KindShardCount       uint16 = 15
	KindMovedOut         uint16 = 16
	KindImported         uint16 = 17
	KindDroppedForgotten uint16 = 19
	KindIdentity         uint16 = 20

	FirstMachineKind uint16 = 100

	// 100 to 104: cloud/group. 110 to 119: cloud/fleet. 130 to 137 and 170 to 172:
	// cloud/txn. 140 to 149: cloud/auth. 150: cloud/quota. 160: cloud/settings. 180 to
	// 184: cloud/queue/state. 185 to 189: cloud/share/state. 173 and 190 to 199 are
	// reserved.
)

// reserved names a kind that level 2 has and this program cannot apply, "" for others.
func reserved(kind uint16) string {
	switch {
	case kind == 18:
		return "pieces paged"
	case kind >= 170 && kind <= 173:
		return "participant of a transaction"
	case kind >= 180 && kind <= 199:
		return "queues"
	}
	return ""
}

// errKind returns the error for an entry, or a section of a Machine, of a later
// version.
func errKind(what string, kind uint16) error {
	if name := reserved(kind); name != "" {
		return fmt.Errorf("%w: %s of kind %d (%s), which needs a later version of weir", ErrFormat, what, kind, name)
	}
	return fmt.Errorf("%w: %s of kind %d", ErrFormat, what, kind)
}
