package state

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// must is for what cannot fail in a test.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// recorder is a Machine that remembers what it was told.
type recorder struct {
	kinds []uint16
	got   []string
}

func (r *recorder) Kinds() []uint16 { return r.kinds }

func (r *recorder) Apply(kind uint16, body []byte) error {
	r.got = append(r.got, fmt.Sprintf("%d:%s", kind, body))
	return nil
}

func (r *recorder) Snapshot() []byte {
	body, err := json.Marshal(r.got)
	must(err)
	return body
}

func (r *recorder) Restore(body []byte) error {
	r.got = nil
	if len(body) == 0 {
		return nil
	}
	return json.Unmarshal(body, &r.got)
}

func buffer(counter uint32) weir.BufferID {
	var id weir.BufferID
	binary.BigEndian.PutUint32(id[:], counter)
	id[11] = 7
	return id
}

func stream(gateway string, counter uint32) *weir.Stream {
	return &weir.Stream{Gateway: gateway, Buffer: buffer(counter), Lane: 1}
}

func source(gateway string, counter uint32, prev, first, last uint64) *Source {
	return &Source{Stream: *stream(gateway, counter), Prev: prev, First: first, Last: last}
}

// mapped adds a row to a source.
func mapped(s *Source, partitions int32, from uint64) Source {
	s.Row = weir.Row{Partitions: partitions, From: from}
	return *s
}

var testTopic = Topic{ID: weir.TopicID{1}, Name: "t", Partitions: 2}

func created() journal.Entry {
	return journal.Entry{Kind: KindTopicCreated, Body: EncodeTopicCreated(testTopic)}
}

// runOf is a well-formed run at a base, of epoch 1.
func runOf(base int64, b record.Batch, sources ...Source) journal.Entry {
	return runIn(1, base, b, sources...)
}

// runIn is one of a leader epoch.
func runIn(epoch int32, base int64, b record.Batch, sources ...Source) journal.Entry {
	r := Run{Topic: testTopic.ID, Base: base, Epoch: epoch, Batches: 1, Sources: sources}
	b.SetBaseOffset(base)
	b.SetLeaderEpoch(epoch)
	body := AppendRunHead(nil, &r)
	dataAt := len(body)
	body = append(body, b...)
	must(SealRun(body, dataAt))
	return journal.Entry{Kind: KindRun, Body: body}
}

// encode is what a checkpoint has of a state.
func (s *State) encode() []byte { return s.Append(nil) }
