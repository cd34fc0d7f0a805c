package edge

import (
	"errors"
	"io/fs"

	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/wire"
)

// uplink is the local log as the sender sees it.
type uplink struct {
	log     *wal.Log
	gateway []byte // id of this one
	source  bool   // name each record's place in its headers
	names   *names
}

// List implements sender.Buffers.
func (u uplink) List() ([]wire.Buffer, error) {
	infos := u.log.Buffers()
	list := make([]wire.Buffer, len(infos))
	for i, info := range infos {
		list[i] = wire.Buffer{ID: info.ID, Current: info.Current}
		for lane, b := range info.Lanes {
			list[i].Lanes[lane] = wire.Bounds(b)
		}
	}
	return list, nil
}

// Read implements sender.Buffers.
func (u uplink) Read(id weir.BufferID, lane weir.Lane, from uint64) ([]sender.Item, error) {
	items, err := u.log.Read(id, lane, from)
	if err != nil {
		return nil, err
	}
	out := make([]sender.Item, len(items))
	for i, item := range items {
		if gap := reported(item); gap != nil {
			out[i] = sender.Item{Seq: item.Seq, Gap: gap}
			continue
		}
		out[i] = sender.Item{Seq: item.Seq, Topic: item.Record.Topic, Record: item.Record.Record, Gap: (*sender.Gap)(item.Gap)}
		if item.Gap != nil {
			continue
		}
		r := &out[i].Record
		if u.source {
			r.Headers = append(r.Headers[:len(r.Headers):len(r.Headers)],
				record.Header{Key: headerSource, Value: source(id, lane, item.Seq)})
		}
		r.Headers = withGateway(r.Headers, u.gateway)
	}
	return out, nil
}

// Trim implements sender.Buffers.
func (u uplink) Trim(id weir.BufferID, lane weir.Lane, through uint64) error {
	return u.log.Trim(id, lane, through)
}

// Retire implements sender.Buffers. The cloud says that it has all of the
// buffer, which is more than this disk knows after a power cut that lost a lazily
// written position, or with a card that is older than the delivery.
// One that records are appended to is never retired, whoever says so.
func (u uplink) Retire(id weir.BufferID) error {
	err := u.log.Retire(id)
	if errors.Is(err, wal.ErrUnacked) && u.log.Current() != id {
		for lane := range weir.Lane(weir.Lanes) {
			if err := u.log.Trim(id, lane, u.log.Last(id, lane)); err != nil {
				return err
			}
		}
		err = u.log.Retire(id)
	}
	if errors.Is(err, wal.ErrUnknown) || errors.Is(err, fs.ErrNotExist) {
		return nil // gone already
	}
	return err
}

// Notify implements sender.Buffers.
func (u uplink) Notify() <-chan struct{} { return u.log.Notify() }

// Rows implements sender.Notes.
func (u uplink) Rows(id weir.BufferID) ([]sender.Row, error) {
	rows, err := u.log.Rows(id)
	if err != nil {
		return nil, err
	}
	out := make([]sender.Row, len(rows))
	for i, r := range rows {
		out[i] = sender.Row{Topic: r.Topic, TopicID: r.TopicID, Partitions: r.Partitions, Lane: r.Lane, From: r.From}
	}
	return out, nil
}

// AddRow implements sender.Notes.
func (u uplink) AddRow(id weir.BufferID, r sender.Row) error {
	return u.log.AddRow(id, wal.Row{Topic: r.Topic, TopicID: r.TopicID, Partitions: r.Partitions, Lane: r.Lane, From: r.From})
}

// Bury implements sender.Notes.
func (u uplink) Bury(id weir.BufferID, lane weir.Lane, items []sender.Item, reason string) error {
	dead := make([]wal.Item, len(items))
	for i, item := range items {
		dead[i] = wal.Item{Seq: item.Seq, Record: wal.Record{Topic: item.Topic, Record: item.Record}, Gap: (*wal.Gap)(item.Gap)}
	}
	u.names.refuse(items, reason)
	return u.log.Bury(id, lane, dead, reason)
}
