package state

import (
	"encoding/binary"
	"time"

	"github.com/weirmq/weir/storage/coding"
)

// QueueID never repeats in a vhost. A queue that is declared again under an old name gets
// a new one.
type QueueID uint64

// Overflow says what becomes of messages when a queue has its maximum.
type Overflow uint8

// The ways of x-overflow.
const (
	DropHead Overflow = iota
	RejectPublish
	RejectPublishDLX
)

// DeadLetter is where the dead letters of a queue go.
type DeadLetter struct {
	Exchange string
	Key      string // x-dead-letter-routing-key
	HasKey   bool   // without one, the message keeps its own keys
}

// Settings of a queue. They never change.
type Settings struct {
	Durable, AutoDelete bool
	Owner               string        // the session that it is exclusive to; "": none
	Arguments           []byte        // all arguments as the door encodes them
	TTL                 time.Duration // x-message-ttl, in whole milliseconds; -1: none
	Expires             time.Duration // x-expires, in whole milliseconds; 0: none
	MaxLength           int64         // x-max-length; -1: no limit
	MaxBytes            int64         // x-max-length-bytes; -1: no limit
	Overflow            Overflow
	DeadLetter          *DeadLetter // nil: none
	MaxPriority         uint8       // x-max-priority; 0: no priorities
	SingleActive        bool        // x-single-active-consumer
	DeliveryLimit       int         // x-delivery-limit; -1: none
	Deduplicate         bool        // x-message-deduplication
	Groups              bool        // x-message-groups

	// Stream (x-queue-type: stream): the queue has no messages of its own. It reads the
	// topic of its name, and what is published to it goes there.
	Stream bool
}

// The flags of settings at rest.
const (
	flagDurable = 1 << iota
	flagAutoDelete
	flagSingleActive
	flagDeadLetter
	flagDeadLetterKey
	flagStream
	flagDeduplicate
	flagGroups
	settingsFlags = 1<<iota - 1
)

// append appends the settings; what may be -1 is one more at rest.
func (s *Settings) append(b []byte) []byte {
	var flags uint64
	for _, f := range []struct {
		set bool
		bit uint64
	}{
		{s.Durable, flagDurable}, {s.AutoDelete, flagAutoDelete}, {s.SingleActive, flagSingleActive},
		{s.DeadLetter != nil, flagDeadLetter}, {s.DeadLetter != nil && s.DeadLetter.HasKey, flagDeadLetterKey},
		{s.Stream, flagStream},
		{s.Deduplicate, flagDeduplicate}, {s.Groups, flagGroups},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(binary.AppendUvarint(b, flags), byte(s.Overflow), s.MaxPriority)
	b = coding.AppendString(b, s.Owner)
	b = coding.AppendString(b, string(s.Arguments))
	ttl := int64(-1)
	if s.TTL >= 0 {
		ttl = s.TTL.Milliseconds()
	}
	for _, n := range []int64{ttl + 1, s.Expires.Milliseconds(), s.MaxLength + 1, s.MaxBytes + 1, int64(s.DeliveryLimit) + 1} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	if d := s.DeadLetter; d != nil {
		b = coding.AppendString(b, d.Exchange)
		if d.HasKey {
			b = coding.AppendString(b, d.Key)
		}
	}
	return b
}

func (d *decoder) settings() Settings {
	flags, overflow, priority := d.Uvarint(), Overflow(d.Byte()), d.Byte()
	if flags&^settingsFlags != 0 || overflow > RejectPublishDLX || flags&flagDeadLetterKey != 0 && flags&flagDeadLetter == 0 {
		d.Fail()
	}
	s := Settings{
		Durable: flags&flagDurable != 0, AutoDelete: flags&flagAutoDelete != 0, SingleActive: flags&flagSingleActive != 0,
		Overflow: overflow, MaxPriority: priority, Owner: d.String(), Stream: flags&flagStream != 0,
		Deduplicate: flags&flagDeduplicate != 0, Groups: flags&flagGroups != 0,
	}
	if a := d.Bytes(); len(a) > 0 {
		s.Arguments = append([]byte(nil), a...)
	}
	s.TTL = -1
	if ms := d.UpTo(maxMillis + 1); ms > 0 {
		s.TTL = time.Duration(ms-1) * time.Millisecond
	}
	s.Expires = time.Duration(d.UpTo(maxMillis)) * time.Millisecond
	s.MaxLength, s.MaxBytes = int64(d.UpTo(maxOffset+1))-1, int64(d.UpTo(maxOffset+1))-1
	s.DeliveryLimit = int(d.Int31()) - 1
	if flags&flagDeadLetter != 0 {
		s.DeadLetter = &DeadLetter{Exchange: d.String(), HasKey: flags&flagDeadLetterKey != 0}
		if s.DeadLetter.HasKey {
			s.DeadLetter.Key = d.String()
		}
	}
	return s
}
