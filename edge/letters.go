package edge

import (
	"fmt"
	"time"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Refused letters are messages that no retry can deliver: their devices get an
// acknowledgement, and people find the messages under /dead-letters.

// letterLane marks the place of a refused letter. No lane of the log has this number.
const letterLane = 0xFF

// maxRecord is the largest size of a record, as package wal counts it, for a topic that
// takes batches of 1 MiB.
const maxRecord = 1_040_000

// tooLarge returns the refusal of a message that fits into no record; nil if it fits.
func tooLarge(r *wal.Record) error {
	if n := wal.Size(r); n > maxRecord {
		return fmt.Errorf("%w: its record has %d bytes, at most %d are allowed", mqtt.ErrTooLarge, n, maxRecord)
	}
	if n := len(r.Headers); n > record.MaxHeaders {
		return fmt.Errorf("%w: its record has %d headers, at most %d are allowed", mqtt.ErrTooLarge, n, record.MaxHeaders)
	}
	return nil
}

// letterBatch is what one batch adds to the refused letters.
type letterBatch struct {
	waiting []int // indexes in the batch
	letters []wal.Letter
}

func (l *letterBatch) reset() {
	clear(l.letters)
	l.waiting, l.letters = l.waiting[:0], l.letters[:0]
}

// placeLetters assigns places to the refused letters of a batch. The batch's other
// messages take taken bytes. Letters that are evicted for them are reported in the live
// lane, in the same batch. If there is no room, the letters are refused as on a full
// disk.
func (b *backend) placeLetters(taken int64, batch *mqtt.Batch, p *prepared) {
	l := &p.letters
	if len(l.waiting) == 0 {
		return
	}
	if err := b.tryLetters(taken, batch.Messages, p); err != nil {
		b.refusals.letters.Note("letters", len(l.waiting), "err", err)
		for _, i := range l.waiting {
			batch.Errs[i] = mqtt.ErrFull
		}
		l.reset()
		return
	}
	for j, i := range l.waiting {
		if batch.Asks(i) {
			batch.Places[i] = place{lane: letterLane, seq: l.letters[j].Seq}.encode()
		}
	}
}

func (b *backend) tryLetters(taken int64, batch []*mqtt.Message, p *prepared) error {
	l := &p.letters
	next, err := b.log.Letters().Next()
	if err != nil {
		return err
	}
	var size int64
	for j, i := range l.waiting {
		l.letters = append(l.letters, letter(batch[i], next+uint64(j)))
		size += int64(len(batch[i].Payload)+len(batch[i].Topic)+len(batch[i].ClientID)) + wal.FrameOverhead
	}
	evictions, err := b.log.Letters().Evictions(l.letters)
	if err != nil {
		return err
	}
	live := &p.lanes[weir.Live]
	if len(live.records) == 0 {
		live.buffer, live.first = b.log.Position(weir.Live)
	}
	var reports []wal.Record
	for _, e := range evictions {
		reports = append(reports, report(e))
		taken += wal.Size(&reports[len(reports)-1])
	}
	if len(reports) > 0 && taken+wal.FrameOverhead > b.log.Room(weir.Live) {
		return fmt.Errorf("report evicted letters: %w", wal.ErrFull)
	}
	if s := b.log.Space(weir.Live); size+taken > s.Disk {
		return fmt.Errorf("%d bytes on the disk: %w", size, wal.ErrFull)
	}
	live.records = append(live.records, reports...)
	return nil
}

func letter(m *mqtt.Message, seq uint64) wal.Letter {
	l := wal.Letter{
		Seq: seq, Client: m.ClientID, Topic: m.Topic, QoS: m.QoS, Time: m.Accepted.UnixMilli(),
		Reason: m.Refused.Reason, Payload: m.Payload, Size: m.Refused.Size,
	}
	if m.Refused.Hash != [32]byte{} {
		l.Hash = m.Refused.Hash[:]
	}
	return l
}

// report returns the record in the log that becomes a record of topic weir.gaps. No
// message gets that topic. The record takes a sequence of its own. Its value is unique,
// because equal ones would become one record there.
func report(e wal.Eviction) wal.Record {
	whose := "the oldest clients"
	if e.Client != "" {
		whose = "client " + fmt.Sprintf("%.80q", e.Client)
	}
	return wal.Record{Topic: weir.GapTopic, Record: record.Record{
		Timestamp: time.Now().UnixMilli(),
		Value:     fmt.Appendf(nil, "%d refused letters of %s gave way to letter %d", e.Letters, whose, e.By),
	}}
}

// reported returns the gap that the sender makes of such a record; nil for any other.
func reported(item wal.Item) *weir.Gap {
	if item.Gap != nil || item.Record.Topic != weir.GapTopic {
		return nil
	}
	return &weir.Gap{First: item.Seq, Last: item.Seq, Reason: string(item.Record.Value), Exact: true}
}
