package edge

import (
	"errors"
	"io/fs"

	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/sender"
)

// uplink is the local log as the sender sees it: it adds this gateway's headers to each
// record, and returns records about evicted letters as gaps.
type uplink struct {
	*wal.Log
	gateway []byte // id of this gateway
	source  bool   // add a header with each record's place
	names   *names
}

// List implements sender.Buffers.
func (u uplink) List() ([]weir.Buffer, error) {
	return u.Buffers(), nil
}

// Read implements sender.Buffers.
func (u uplink) Read(id weir.BufferID, lane weir.Lane, from uint64) ([]sender.Item, error) {
	items, err := u.Log.Read(id, lane, from)
	if err != nil {
		return nil, err
	}
	out := make([]sender.Item, len(items))
	for i, item := range items {
		if gap := reported(item); gap != nil {
			out[i] = sender.Item{Seq: item.Seq, Gap: gap}
			continue
		}
		out[i] = sender.Item{Seq: item.Seq, Topic: item.Record.Topic, Record: item.Record.Record, Gap: item.Gap}
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

// Retire implements sender.Buffers. The cloud says that it has all of the buffer. The
// disk may know of less, after a power cut that lost the last written position, or if
// the card is older than the delivery. The current buffer is never retired, whatever
// the cloud says.
func (u uplink) Retire(id weir.BufferID) error {
	err := u.Log.Retire(id)
	if errors.Is(err, wal.ErrUnacked) && u.Log.Current() != id {
		for lane := range weir.Lane(weir.Lanes) {
			if err := u.Log.Trim(id, lane, u.Log.Last(id, lane)); err != nil {
				return err
			}
		}
		err = u.Log.Retire(id)
	}
	if errors.Is(err, wal.ErrUnknown) || errors.Is(err, fs.ErrNotExist) {
		return nil // gone already
	}
	return err
}

// AddDead implements sender.Notes.
func (u uplink) AddDead(id weir.BufferID, lane weir.Lane, items []sender.Item, reason string) error {
	dead := make([]wal.Item, len(items))
	for i, item := range items {
		dead[i] = wal.Item{Seq: item.Seq, Record: wal.Record{Topic: item.Topic, Record: item.Record}, Gap: item.Gap}
	}
	u.names.refuse(items, reason)
	return u.Log.AddDead(id, lane, dead, reason)
}
