package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// A stream of attach is a sequence of messages in each direction. A message is its length
// without itself (4 bytes), a kind, the numbers of an attachment and of a request (4 bytes
// each), and a body.
const (
	kindNumber byte = 1 + iota // ask for the number of a session
	kindAttach
	kindDetach // no answer
	kindAppend
	kindOffer
	kindMark
	kindRetire
	kindAnswer // from the owner: code, text, and what was asked for
	kindEnded  // from the owner: code; the attachment is over
)

const (
	headerSize   = 1 + 4 + 4
	maxQuestion  = wire.MaxLane + 64<<10 // bytes of a message to the owner
	maxAnswering = 32 << 20              // bytes of a message from the owner
	readAtFirst  = 64 << 10              // bytes of a body for which memory is taken before they have arrived
	maxText      = 1 << 10               // bytes of the text of an error
)

// errStream means that the other node sent a message that cannot be read.
var errStream = errors.New("message cannot be read")

// message is one message. body belongs to its reader.
type message struct {
	kind          byte
	link, request uint32
	body          []byte
}

// appendMessage appends a message; body appends its body.
func appendMessage(b []byte, kind byte, link, request uint32, body func([]byte) []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, kind)
	b = binary.BigEndian.AppendUint32(b, link)
	b = binary.BigEndian.AppendUint32(b, request)
	if body != nil {
		b = body(b)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// readMessage reads a message of at most that many bytes. Memory is taken for what has
// arrived. io.EOF means that the stream ended between two messages.
func readMessage(r *bufio.Reader, most int) (message, error) {
	var head [4 + headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return message{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < headerSize || n > uint32(most) {
		return message{}, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", errStream, n, most)
	}
	m := message{kind: head[4], link: binary.BigEndian.Uint32(head[5:]), request: binary.BigEndian.Uint32(head[9:])}
	size := int(n) - headerSize
	m.body = make([]byte, 0, min(size, readAtFirst))
	for len(m.body) < size {
		if len(m.body) == cap(m.body) {
			m.body = append(make([]byte, 0, min(size, 4*cap(m.body))), m.body...)
		}
		got, err := io.ReadFull(r, m.body[len(m.body):cap(m.body)])
		m.body = m.body[:len(m.body)+got]
		if err != nil {
			return message{}, fmt.Errorf("%w: it ends too early: %w", errStream, err)
		}
	}
	return m, nil
}

// codes are the errors of an attachment on the wire. The index is the code; 0 is success.
var codes = [...]error{nil, uplink.ErrHole, uplink.ErrMoved, uplink.ErrBusy, uplink.ErrGone, uplink.ErrTooLarge, uplink.ErrNotAllowed,
	uplink.ErrCorrupt, uplink.ErrRetired, uplink.ErrSuperseded, uplink.ErrDetached}

const codeBusy, codeDetached = 3, 10

// codeOf returns the code of an error. A node that is not the owner any more does not hear
// the attachment.
func codeOf(err error) byte {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[*uplink.NotOwnerError](err); ok {
		return codeDetached
	}
	for code, of := range codes {
		if of != nil && errors.Is(err, of) {
			return byte(code)
		}
	}
	return codeBusy
}

// remoteError is an error that another node has answered.
type remoteError struct {
	kind error
	text string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// errorOf is the reverse of codeOf. A code of a later version counts as ErrBusy.
func errorOf(code byte, text string) error {
	switch {
	case code == 0:
		return nil
	case int(code) >= len(codes):
		code = codeBusy
	}
	if text == "" {
		return codes[code]
	}
	return &remoteError{codes[code], text}
}

// appendError appends the code and the text of an error.
func appendError(b []byte, err error) []byte {
	b = append(b, codeOf(err))
	if err == nil {
		return coding.AppendString(b, "")
	}
	text := err.Error()
	return coding.AppendString(b, text[:min(len(text), maxText)])
}

// attachQuestion is the body of kindAttach.
type attachQuestion struct {
	shard   uint32
	gateway string
	number  uplink.Number
	buffers []weir.Buffer
}

func (q attachQuestion) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(q.shard))
	b = coding.AppendString(b, q.gateway)
	return appendBuffers(appendNumber(b, q.number), q.buffers)
}

func decodeAttach(p []byte) (q attachQuestion, err error) {
	d := coding.NewDecoder(p)
	q.shard = uint32(d.UpTo(1<<32 - 1))
	q.gateway = d.String()
	q.number = takeNumber(&d)
	q.buffers = takeBuffers(&d)
	return q, end(&d)
}

// end returns an error unless all was read and nothing is left.
func end(d *coding.Decoder) error {
	if !d.Done() {
		return errStream
	}
	return nil
}

func appendNumber(b []byte, n uplink.Number) []byte {
	b = binary.AppendUvarint(b, n.Epoch)
	b = binary.AppendUvarint(b, n.Count)
	return binary.AppendUvarint(b, n.Try)
}

func takeNumber(d *coding.Decoder) uplink.Number {
	return uplink.Number{Epoch: d.Uvarint(), Count: d.Uvarint(), Try: d.Uvarint()}
}

// bufferSize is the least that a buffer takes.
const bufferSize = 12 + 1 + weir.Lanes*2

func appendBuffers(b []byte, all []weir.Buffer) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, v := range all {
		b = append(b, v.ID[:]...)
		b = appendBool(b, v.Current)
		for _, l := range v.Lanes {
			b = binary.AppendUvarint(binary.AppendUvarint(b, l.First), l.Last)
		}
	}
	return b
}

func takeBuffers(d *coding.Decoder) (all []weir.Buffer) {
	if n := d.Count(bufferSize); n > 0 {
		all = make([]weir.Buffer, n)
	}
	for i := range all {
		copy(all[i].ID[:], d.Take(12))
		all[i].Current = takeBool(d)
		for l := range all[i].Lanes {
			all[i].Lanes[l] = weir.Bounds{First: d.Uvarint(), Last: d.Uvarint()}
		}
	}
	return all
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func takeBool(d *coding.Decoder) bool {
	v := d.Byte()
	if v > 1 {
		d.Fail()
	}
	return v == 1
}

// markSize is the bytes of a partition of a stream.
const markSize = 12 + 1 + 16 + 4

func appendTarget(b []byte, buffer weir.BufferID, lane weir.Lane, topic weir.TopicID, partition int32) []byte {
	b = append(b, buffer[:]...)
	b = append(b, byte(lane))
	b = append(b, topic[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(partition))
}

func takeTarget(d *coding.Decoder) (m weir.Mark) {
	copy(m.Buffer[:], d.Take(12))
	m.Lane = takeLane(d)
	m.Topic = d.ID()
	m.Partition = int32(d.Uint32())
	return m
}

func takeLane(d *coding.Decoder) weir.Lane {
	l := weir.Lane(d.Byte())
	if !l.Valid() {
		d.Fail()
	}
	return l
}

// encodeAppend appends the body of kindAppend. The gateway is that of the attachment, and
// the round is of no use to the owner.
func encodeAppend(b []byte, a uplink.Append) []byte {
	b = appendTarget(b, a.Stream.Buffer, a.Stream.Lane, a.Topic, a.Partition)
	for _, v := range [...]uint64{uint64(uint32(a.Row.Partitions)), a.Row.From, a.Prev, a.First, a.Last, a.Missing} {
		b = binary.AppendUvarint(b, v)
	}
	b = appendBool(b, a.Gap)
	return append(b, a.Batch...)
}

func decodeAppend(p []byte, gateway string) (a uplink.Append, err error) {
	d := coding.NewDecoder(p)
	m := takeTarget(&d)
	a.Stream = weir.Stream{Gateway: gateway, Buffer: m.Buffer, Lane: m.Lane}
	a.Topic, a.Partition = m.Topic, m.Partition
	a.Row.Partitions = d.Int31()
	for _, to := range [...]*uint64{&a.Row.From, &a.Prev, &a.First, &a.Last, &a.Missing} {
		*to = d.Uvarint()
	}
	a.Gap = takeBool(&d)
	a.Batch = record.Batch(d.Rest())
	if a.Prev >= a.First || a.First > a.Last {
		d.Fail()
	}
	return a, end(&d)
}

const (
	offeredSize = 12 + 1 + weir.Lanes
	rowSize     = 12 + 1 + 16 + 1 + 1 + 1
)

func appendOffered(b []byte, o uplink.Offered) []byte {
	b = binary.AppendUvarint(b, uint64(len(o.Buffers)))
	for _, v := range o.Buffers {
		b = append(b, v.ID[:]...)
		b = append(b, byte(v.State))
		for _, reached := range v.Reached {
			b = binary.AppendUvarint(b, reached)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(o.Marks)))
	for _, m := range o.Marks {
		b = appendTarget(b, m.Buffer, m.Lane, m.Topic, m.Partition)
		b = binary.AppendUvarint(b, m.Last)
	}
	b = binary.AppendUvarint(b, uint64(len(o.Rows)))
	for _, r := range o.Rows {
		b = append(b, r.Buffer[:]...)
		b = append(b, byte(r.Lane))
		b = append(b, r.Topic[:]...)
		b = coding.AppendString(b, r.Name)
		b = binary.AppendUvarint(b, uint64(uint32(r.Partitions)))
		b = binary.AppendUvarint(b, r.From)
	}
	return b
}

func takeOffered(d *coding.Decoder) (o uplink.Offered) {
	if n := d.Count(offeredSize); n > 0 {
		o.Buffers = make([]wire.OfferedBuffer, n)
	}
	for i := range o.Buffers {
		v := &o.Buffers[i]
		copy(v.ID[:], d.Take(12))
		if v.State = weir.BufferState(d.Byte()); !v.State.Valid() {
			d.Fail()
		}
		for l := range v.Reached {
			v.Reached[l] = d.Uvarint()
		}
	}
	if n := d.Count(markSize + 1); n > 0 {
		o.Marks = make([]weir.Mark, n)
	}
	for i := range o.Marks {
		o.Marks[i] = takeTarget(d)
		o.Marks[i].Last = d.Uvarint()
	}
	if n := d.Count(rowSize); n > 0 {
		o.Rows = make([]weir.MapRow, n)
	}
	for i := range o.Rows {
		r := &o.Rows[i]
		copy(r.Buffer[:], d.Take(12))
		r.Lane = takeLane(d)
		r.Topic = d.ID()
		r.Name = d.String()
		r.Partitions = d.Int31()
		r.From = d.Uvarint()
	}
	return o
}

// answer is the body of kindAnswer.
type answer struct {
	err    error
	mark   uint64         // of kindMark
	number uplink.Number  // of kindNumber
	known  uplink.Offered // of kindAttach and kindOffer
}

// encode appends the answer to a question of that kind.
func (a answer) encode(b []byte, to byte) []byte {
	b = appendError(b, a.err)
	if a.err != nil {
		return b
	}
	switch to {
	case kindNumber:
		b = appendNumber(b, a.number)
	case kindMark:
		b = binary.AppendUvarint(b, a.mark)
	case kindAttach, kindOffer:
		b = appendOffered(b, a.known)
	}
	return b
}

// decodeAnswer reads the answer to a question of that kind. The second result is not nil if
// the answer cannot be read.
func decodeStreamAnswer(p []byte, to byte) (a answer, err error) {
	d := coding.NewDecoder(p)
	code, text := d.Byte(), d.String()
	if a.err = errorOf(code, text); a.err != nil || d.Bad() {
		return a, end(&d)
	}
	switch to {
	case kindNumber:
		a.number = takeNumber(&d)
	case kindMark:
		a.mark = d.Uvarint()
	case kindAttach, kindOffer:
		a.known = takeOffered(&d)
	}
	return a, end(&d)
}
