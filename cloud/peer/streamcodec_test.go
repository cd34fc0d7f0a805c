package peer

import (
	"bufio"
	"bytes"
	"reflect"
	"testing"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// FuzzMessage: whatever comes, nothing breaks; and what can be read is written again as it was.
func FuzzMessage(f *testing.F) {
	known := uplink.Offered{Buffers: []wire.OfferedBuffer{{ID: weir.BufferID{1}}}, Marks: []weir.Mark{{Last: 3}}, Rows: []weir.MapRow{{Name: "t", Row: weir.Row{Partitions: 1, From: 1}}}}
	for _, seed := range [][]byte{
		appendMessage(nil, kindAttach, 1, 2, attachQuestion{7, "gw", uplink.Number{Epoch: 1, Count: 2, Try: 3}, []weir.Buffer{{ID: weir.BufferID{1}, Current: true}}}.encode),
		appendMessage(nil, kindAppend, 1, 2, func(b []byte) []byte { return encodeAppend(b, someAppend) }),
		appendMessage(nil, kindOffer, 1, 2, func(b []byte) []byte { return answer{known: known}.encode(b, kindOffer) }),
		appendMessage(nil, kindMark, 1, 2, func(b []byte) []byte { return answer{mark: 9}.encode(b, kindMark) }),
		appendMessage(nil, kindRetire, 1, 2, func(b []byte) []byte { return answer{err: uplink.ErrRetired}.encode(b, kindRetire) }),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := readMessage(bufio.NewReader(bytes.NewReader(p)), 1<<20)
		if err != nil {
			return
		}
		if again := appendMessage(nil, m.kind, m.link, m.request, func(b []byte) []byte { return append(b, m.body...) }); !bytes.HasPrefix(p, again) {
			t.Fatalf("%x is written as %x", p, again)
		}
		if q, err := decodeAttach(m.body); err == nil && !bytes.Equal(q.encode(nil), m.body) {
			t.Fatalf("attach %+v", q)
		}
		if a, err := decodeAppend(bytes.Clone(m.body), "gw"); err == nil && !bytes.Equal(encodeAppend(nil, a), m.body) {
			t.Fatalf("append %+v", a)
		}
		for _, kind := range []byte{kindNumber, kindMark, kindOffer, kindRetire} {
			a, err := decodeStreamAnswer(m.body, kind)
			if err != nil || a.err != nil {
				continue
			}
			b, err := decodeStreamAnswer(a.encode(nil, kind), kind)
			if err != nil || !reflect.DeepEqual(a, b) {
				t.Fatalf("answer %+v, %+v, %v", a, b, err)
			}
		}
	})
}

// TestCodes: each error of an attachment arrives as itself.
func TestCodes(t *testing.T) {
	for _, err := range codes {
		a, failed := decodeStreamAnswer(answer{err: err}.encode(nil, kindRetire), kindRetire)
		if failed != nil || (err == nil) != (a.err == nil) || err != nil && codeOf(a.err) != codeOf(err) {
			t.Errorf("%v arrives as %v, %v", err, a.err, failed)
		}
	}
	if got := errorOf(200, "later"); codeOf(got) != codeBusy || got.Error() != "later" {
		t.Errorf("a code of a later version: %v", got)
	}
	if code := codeOf(&uplink.NotOwnerError{}); code != codeDetached {
		t.Errorf("a node that is not the owner: code %d", code)
	}
	var big uplink.Append
	big.Batch = make(record.Batch, 3<<20)
	m, err := readMessage(bufio.NewReader(bytes.NewReader(appendMessage(nil, kindAppend, 1, 1, func(b []byte) []byte { return append(b, big.Batch...) }))), 4<<20)
	if err != nil || len(m.body) != 3<<20 {
		t.Errorf("%d bytes, %v", len(m.body), err)
	}
}
