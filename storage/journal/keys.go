package journal

import (
	"fmt"
	"strconv"
	"strings"
)

// Numbers in keys are padded with zeros so that the byte order of a listing is
// the order of the numbers.
const digits = 20

// SlotKey returns the key of the object at p, for ranged reads of an entry's
// bytes (Entry.At).
func SlotKey(shard uint32, p Position) string {
	return fmt.Sprintf("%04d/log/%020d/%020d", shard, p.Epoch, p.Slot)
}

// logPrefix is what the keys of all slots begin with.
func logPrefix(shard uint32) string { return fmt.Sprintf("%04d/log/", shard) }

func claimPrefix(shard uint32) string { return fmt.Sprintf("%04d/epoch/", shard) }

func claimKey(shard uint32, epoch uint64) string {
	return fmt.Sprintf("%s%020d", claimPrefix(shard), epoch)
}

func checkpointPrefix(shard uint32) string { return fmt.Sprintf("%04d/checkpoint/", shard) }

func checkpointKey(shard uint32, p Position) string {
	return fmt.Sprintf("%s%020d-%020d", checkpointPrefix(shard), p.Epoch, p.Slot)
}

func tombstonePrefix(shard uint32) string { return fmt.Sprintf("%04d/tombstone/", shard) }

func tombstoneKey(shard uint32, p Position) string {
	return fmt.Sprintf("%s%020d-%020d", tombstonePrefix(shard), p.Epoch, p.Slot)
}

func closingPrefix(shard uint32) string { return fmt.Sprintf("%04d/closed/", shard) }

func closingKey(shard uint32, p Position) string {
	return fmt.Sprintf("%s%020d-%020d", closingPrefix(shard), p.Epoch, p.Slot)
}

func askPrefix(shard uint32) string { return fmt.Sprintf("%04d/ask/", shard) }

func askEpochPrefix(shard uint32, epoch uint64) string {
	return fmt.Sprintf("%s%020d-", askPrefix(shard), epoch)
}

func askKey(shard uint32, p Position) string {
	return fmt.Sprintf("%s%020d", askEpochPrefix(shard, p.Epoch), p.Slot)
}

func epochPrefix(shard uint32, epoch uint64) string {
	return fmt.Sprintf("%s%020d/", logPrefix(shard), epoch)
}

// parseClaim returns the epoch that a key of the claims' listing names.
func parseClaim(shard uint32, key string) (uint64, error) {
	name, ok := strings.CutPrefix(key, claimPrefix(shard))
	epoch, good := parseNumber(name)
	if !ok || !good || epoch == 0 {
		return 0, fmt.Errorf("%w: %s is not the key of a claim", ErrCorrupt, key)
	}
	return epoch, nil
}

// parseCheckpoint returns the position in a key of the checkpoints' listing, and false
// for a name that this version does not understand. A checkpoint never has slot 0: a
// node that writes one owns the epoch, by its header.
func parseCheckpoint(shard uint32, key string) (Position, bool) {
	pos, ok := parsePlace(key, checkpointPrefix(shard))
	return pos, ok && pos.Slot > 0
}

// parsePlace returns the position that follows prefix in a key, as in those of
// checkpoints, tombstones and closings.
func parsePlace(key, prefix string) (Position, bool) {
	name, ok := strings.CutPrefix(key, prefix)
	e, s, cut := strings.Cut(name, "-")
	epoch, eok := parseNumber(e)
	slot, sok := parseNumber(s)
	return Position{epoch, slot}, ok && cut && eok && sok && epoch > 0
}

// parseSlot returns the position in a key of a listing of slots.
func parseSlot(shard uint32, key string) (Position, error) {
	name, ok := strings.CutPrefix(key, logPrefix(shard))
	e, s, cut := strings.Cut(name, "/")
	epoch, eok := parseNumber(e)
	slot, sok := parseNumber(s)
	if !ok || !cut || !eok || !sok || epoch == 0 {
		return Position{}, fmt.Errorf("%w: %s is not the key of a slot", ErrCorrupt, key)
	}
	return Position{epoch, slot}, nil
}

func parseNumber(s string) (uint64, bool) {
	if len(s) != digits {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}
