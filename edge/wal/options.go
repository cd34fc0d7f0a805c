package wal

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"
)

// Sizes that Options takes when a field is zero.
const (
	defaultQuota       = 1 << 30
	defaultReserve     = 64 << 20
	defaultSegmentSize = 1 << 20
	defaultDeadQuota   = 64 << 20
)

// Options configures a Log. Only Dir is required.
type Options struct {
	// Dir holds everything. It is created if it is missing.
	Dir string

	// Quota is how many bytes the buffers may take together; 0 is 1 GiB. The last
	// sixteenth is reserved for alarms, and the one before for alarms and live records,
	// so that a bulk backlog never makes the log refuse an alarm.
	Quota int64

	// Reserve is how many bytes Append leaves free on the disk; 0 is 64 MiB, a negative
	// number is no reserve.
	Reserve int64

	// SegmentSize is how many bytes a file takes before the next one is begun; 0 is
	// 1 MiB. Disk space is freed in whole files. tidwall/wal holds one file per lane in
	// use in memory.
	SegmentSize int

	// DeadQuota is how many bytes the dead letters may take; 0 is 64 MiB. When it is
	// exceeded, the oldest are removed.
	DeadQuota int64

	// LetterQuota is how many bytes the refused letters may take; 0 is 128 MiB.
	// ClientLetters is the same for one client; 0 is 1 MiB.
	LetterQuota, ClientLetters int64

	// Used says that there was a log in Dir before. If Dir has no trace of it, the log is
	// lost, and a gap without further details is reported.
	Used bool

	// Log gets a line for each damage that is found and each buffer that is given up; nil
	// discards them.
	Log *slog.Logger

	// Now is the clock for the delayed write of the acknowledged position; nil is
	// time.Now.
	Now func() time.Time

	disk disk // a test uses it to make steps fail
}

// check fills in the defaults.
func (o *Options) check() error {
	if o.Dir == "" {
		return fmt.Errorf("buffer directory is not set")
	}
	if o.Quota < 0 || o.SegmentSize < 0 || o.DeadQuota < 0 || o.LetterQuota < 0 || o.ClientLetters < 0 {
		return fmt.Errorf("buffer quota, segment size and quotas of letters must not be negative")
	}
	if o.SegmentSize > maxBody {
		return fmt.Errorf("buffer segment size %d is over the limit of %d bytes", o.SegmentSize, maxBody)
	}
	if o.Quota == 0 {
		o.Quota = defaultQuota
	}
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegmentSize
	}
	if o.DeadQuota == 0 {
		o.DeadQuota = defaultDeadQuota
	}
	o.LetterQuota, o.ClientLetters = cmp.Or(o.LetterQuota, lettersMost), cmp.Or(o.ClientLetters, clientMost)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.disk.defaults()
	return nil
}
