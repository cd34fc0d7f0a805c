package broker

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/coding"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
)

// A body begins with its version. An answer goes on with the code of an error and its text;
// after an error of the whole question only one that says where a partition is goes on.
// Numbers are varints, signed ones zigzag encoded; batches and texts have their length
// before them.

const remoteVersion = 1

const (
	// maxPlaces bounds the partitions of one question or message.
	maxPlaces = 20_000
	// maxBatches bounds the batches of one question, and flightBytes their bytes, unless one
	// alone has more.
	maxBatches  = 1024
	flightBytes = 4 << 20
	// maxRead bounds how much a question reads, in bytes, unless one batch has more.
	maxRead = 1 << 20
	// maxReason bounds the text of an error, in bytes.
	maxReason = 512
)

// errRemote means that another node's question, answer or message cannot be read; errThere
// is an error at another node that has no code of its own.
var (
	errRemote = errors.New("body cannot be read")
	errThere  = errors.New("the node that leads the partition failed")
)

// remoteCodes are the errors on the wire. The index is the code; 0 is success. An error gets
// the first code that fits.
var remoteCodes = [...]error{nil, ErrNotOwner, ErrUnavailable, ErrBehind, ErrUnknownTopic, ErrOffsetOutOfRange, ErrTooLarge, ErrInvalidTimestamp,
	ErrOutOfOrderSequence, ErrProducerFenced, ErrUnknownProducer, ErrTransactionOpen, ErrUnsupported, txn.ErrNotInTransaction, ErrCorrupt, errThere,
	share.ErrTooMany, machine.ErrLevel}

// codeThere is the code of errThere. Later codes are not known to earlier versions, which
// take them for this one.
const codeThere = 15

// thereError is an error that another node has answered.
type thereError struct {
	kind error
	text string
}

func (e *thereError) Error() string { return e.text }
func (e *thereError) Unwrap() error { return e.kind }

func appendError(p []byte, err error) []byte {
	if err == nil {
		return append(p, 0)
	}
	code := codeThere
	for i, of := range remoteCodes {
		if of != nil && errors.Is(err, of) {
			code = i
			break
		}
	}
	text := err.Error()
	return coding.AppendString(append(p, byte(code)), text[:min(len(text), maxReason)])
}

// decoder takes a body apart.
type decoder struct{ coding.Decoder }

// newDecoder begins with a body.
func newDecoder(body []byte) (*decoder, error) {
	d := &decoder{coding.NewDecoder(body)}
	if version := d.Byte(); d.Bad() || version != remoteVersion {
		return nil, fmt.Errorf("%w: its version is %d", errRemote, version)
	}
	return d, nil
}

// end returns an error unless the body was what it should be.
func (d *decoder) end() error {
	if !d.Done() {
		return errRemote
	}
	return nil
}

// outcome takes an error apart.
func (d *decoder) outcome() error {
	code := d.Byte()
	if code == 0 || d.Bad() {
		return nil
	}
	text := d.String()
	if int(code) >= len(remoteCodes) {
		code = codeThere // of a later version
	}
	return &thereError{remoteCodes[code], text}
}

func (d *decoder) place() Place {
	return Place{Topic: d.ID(), Partition: d.Int31()}
}

// offset takes a number that is not negative, or -1.
func (d *decoder) offset() int64 { return d.Varint() }

func appendPlace(p []byte, at Place) []byte {
	return binary.AppendUvarint(append(p, at.Topic[:]...), uint64(uint32(at.Partition)))
}

// minPlace is the least bytes of a partition.
const minPlace = 16 + 1

// appendPlaces encodes the question for ranges, and the message that partitions have grown.
func appendPlaces(p []byte, all []Place) []byte {
	p = binary.AppendUvarint(append(p, remoteVersion), uint64(len(all)))
	for _, at := range all {
		p = appendPlace(p, at)
	}
	return p
}

// places is the inverse of appendPlaces, but for the version.
func (d *decoder) places() ([]Place, error) {
	n := d.Count(minPlace)
	if n > maxPlaces {
		return nil, fmt.Errorf("%w: it has %d partitions", errRemote, n)
	}
	all := make([]Place, 0, n)
	for range n {
		all = append(all, d.place())
	}
	return all, d.end()
}

// readQuestion asks for records.
type readQuestion struct {
	Place
	offset    int64
	most      int // bytes, about
	committed bool
}

func (q readQuestion) append(p []byte) []byte {
	p = appendPlace(append(p, remoteVersion), q.Place)
	p = binary.AppendVarint(p, q.offset)
	p = binary.AppendUvarint(p, uint64(max(q.most, 0)))
	if q.committed {
		return append(p, 1)
	}
	return append(p, 0)
}

func (d *decoder) readQuestion() (q readQuestion, err error) {
	q = readQuestion{d.place(), d.offset(), int(min(d.Uvarint(), maxRead)), d.Byte() == 1}
	return q, d.end()
}

// appendFetched encodes the answer.
func appendFetched(p []byte, f *Fetched, err error) []byte {
	p = appendError(append(p, remoteVersion), err)
	for _, n := range []int64{f.Start, f.End, f.Stable} {
		p = binary.AppendVarint(p, n)
	}
	p = binary.AppendUvarint(p, uint64(len(f.Aborted)))
	for _, a := range f.Aborted {
		for _, n := range []int64{a.Producer, a.First, a.Last} {
			p = binary.AppendVarint(p, n)
		}
	}
	p = binary.AppendUvarint(p, uint64(len(f.Batches)))
	for _, b := range f.Batches {
		p = append(binary.AppendUvarint(p, uint64(len(b))), b...)
	}
	return p
}

// fetched is the inverse of appendFetched. The batches alias the body.
func (d *decoder) fetched() (f Fetched, err error) {
	failed := d.outcome()
	f.Start, f.End, f.Stable = d.offset(), d.offset(), d.offset()
	for range d.Count(3) {
		f.Aborted = append(f.Aborted, logstate.Aborted{Producer: d.Varint(), First: d.Varint(), Last: d.Varint()})
	}
	for range d.Count(1 + record.HeaderSize) {
		b := d.Bytes()
		if record.Batch(b).VerifyHeader() != nil {
			d.Fail()
			break
		}
		f.Batches = append(f.Batches, b)
	}
	if err := d.end(); err != nil {
		return Fetched{}, err
	}
	return f, failed
}

// appendRanges encodes the answer.
func appendRanges(p []byte, all []Range, err error) []byte {
	p = appendError(append(p, remoteVersion), err)
	p = binary.AppendUvarint(p, uint64(len(all)))
	for _, x := range all {
		if p = appendError(p, x.Err); x.Err != nil {
			continue
		}
		for _, n := range []int64{x.Start, x.End, x.Stable, x.Bytes} {
			p = binary.AppendVarint(p, n)
		}
	}
	return p
}

// ranges is the inverse of appendRanges, for that many partitions.
func (d *decoder) ranges(want int) ([]Range, error) {
	failed := d.outcome()
	n := d.Count(1)
	if n > want || n < want && failed == nil {
		return nil, fmt.Errorf("%w: it has %d ranges, not %d", errRemote, n, want)
	}
	all := make([]Range, n)
	for i := range all {
		x := &all[i]
		if x.Err = d.outcome(); x.Err == nil {
			x.Start, x.End, x.Stable, x.Bytes = d.offset(), d.offset(), d.offset(), d.offset()
		}
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return all, failed
}

// searchQuestion asks for the first record that is not older.
type searchQuestion struct {
	Place
	time int64 // ms since 1970
}

func (q searchQuestion) append(p []byte) []byte {
	return binary.AppendVarint(appendPlace(append(p, remoteVersion), q.Place), q.time)
}

func (d *decoder) searchQuestion() (q searchQuestion, err error) {
	q = searchQuestion{d.place(), d.Varint()}
	return q, d.end()
}

func appendFound(p []byte, offset, timestamp int64, err error) []byte {
	p = appendError(append(p, remoteVersion), err)
	return binary.AppendVarint(binary.AppendVarint(p, offset), timestamp)
}

// found is the inverse of appendFound.
func (d *decoder) found() (offset, timestamp int64, err error) {
	failed := d.outcome()
	offset, timestamp = d.offset(), d.Varint()
	if err := d.end(); err != nil {
		return -1, -1, err
	}
	return offset, timestamp, failed
}

// appendBatches encodes the question to append batches, those of a partition in their order.
func appendBatches(p []byte, all []Append) []byte {
	p = binary.AppendUvarint(append(p, remoteVersion), uint64(len(all)))
	for _, a := range all {
		p = appendPlace(p, Place{Topic: a.Topic, Partition: a.Partition})
		p = append(binary.AppendUvarint(p, uint64(len(a.Batch))), a.Batch...)
	}
	return p
}

// batches is the inverse of appendBatches. They alias the body.
func (d *decoder) batches() ([]Append, error) {
	n := d.Count(minPlace + 1)
	if n > maxBatches {
		return nil, fmt.Errorf("%w: it has %d batches", errRemote, n)
	}
	all := make([]Append, n)
	for i := range all {
		at := d.place()
		all[i] = Append{Topic: at.Topic, Partition: at.Partition, Batch: d.Bytes()}
	}
	return all, d.end()
}

// appended is the answer about one batch.
type appended struct {
	base int64
	err  error
}

func appendAppended(p []byte, all []appended) []byte {
	p = binary.AppendUvarint(append(p, remoteVersion), uint64(len(all)))
	for _, one := range all {
		p = binary.AppendVarint(appendError(p, one.err), one.base)
	}
	return p
}

// appended is the inverse of appendAppended, for that many batches.
func (d *decoder) appended(want int) ([]appended, error) {
	if n := d.Count(2); n != want {
		return nil, fmt.Errorf("%w: it has answers for %d batches, not %d", errRemote, n, want)
	}
	all := make([]appended, want)
	for i := range all {
		err := d.outcome()
		all[i] = appended{d.Varint(), err}
	}
	return all, d.end()
}
