package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
)

const cataloguePath = "/peer/v1/catalogue"

const (
	// catalogueVersion is the version of the body.
	catalogueVersion = 1

	// maxCatalogue bounds the body of an answer, in bytes, and catalogueTime the time for
	// the other node to read it.
	maxCatalogue  = 64 << 20
	catalogueTime = 30 * time.Second

	// maxWait is the longest time that an answer waits for a change.
	maxWait = 5 * time.Second
)

// ErrInterrupted, as the cause of a context, ends Client.Catalogue without any doubt about
// the other node.
var ErrInterrupted = errors.New("the question was interrupted")

// CatalogueQuestion is what a node asks the owner of shard 0.
type CatalogueQuestion struct {
	Epoch int32            // of the owner that has told all that the node knows; 0: it wants everything
	After journal.Position // up to which the node knows everything
	Wait  time.Duration    // how long the answer waits if there is no change; 0: not at all

	Node string // that asks; set by the server
}

// Catalogue is the answer.
type Catalogue struct {
	Epoch   int32  // leader epoch of shard 0
	Cluster string // id
	Offsets bool   // the offsets topic exists
	Update  commitlog.CatalogueUpdate
}

// catalogue answers a node that keeps a mirror: 503 if this node cannot say, 413 if there
// is too much.
func (s *Server) catalogue(w http.ResponseWriter, r *http.Request) {
	if s.o.Catalogue == nil {
		http.NotFound(w, r)
		return
	}
	q, err := parseQuestion(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	q.Node = asker(r)
	c, err := s.o.Catalogue(r.Context(), q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	body := c.append(nil)
	if len(body) > maxCatalogue {
		http.Error(w, fmt.Sprintf("there are %d bytes", len(body)), http.StatusRequestEntityTooLarge)
		return
	}
	// An error means that the other node is gone or too slow. It sees a body that is cut off.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(catalogueTime))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

func (q CatalogueQuestion) values() url.Values {
	return url.Values{
		"epoch": {strconv.Itoa(int(q.Epoch))},
		"after": {q.After.String()},
		"wait":  {strconv.FormatInt(q.Wait.Milliseconds(), 10)},
	}
}

// parseQuestion is the inverse of values.
func parseQuestion(v url.Values) (q CatalogueQuestion, err error) {
	epoch, err := strconv.ParseInt(v.Get("epoch"), 10, 32)
	number, slot, _ := strings.Cut(v.Get("after"), "/")
	var errs [3]error
	q.Epoch = int32(epoch)
	q.After.Epoch, errs[0] = strconv.ParseUint(number, 10, 64)
	q.After.Slot, errs[1] = strconv.ParseUint(slot, 10, 64)
	wait, last := strconv.ParseUint(v.Get("wait"), 10, 31)
	errs[2] = last
	q.Wait = min(time.Duration(wait)*time.Millisecond, maxWait)
	return q, errors.Join(err, errors.Join(errs[:]...))
}

// append encodes the body: version, leader epoch, id of the cluster, whether the offsets
// topic exists, the position, whether there is a snapshot; then the snapshot, or the
// slots with their entries. Numbers are uvarints; snapshot and bodies have their length
// before them.
func (c *Catalogue) append(p []byte) []byte {
	u := &c.Update
	p = append(p, catalogueVersion)
	p = binary.AppendUvarint(p, uint64(c.Epoch))
	p = coding.AppendString(p, c.Cluster)
	p = append(p, flag(c.Offsets))
	p = appendPosition(p, u.At)
	p = append(p, flag(u.Snapshot != nil))
	if u.Snapshot != nil {
		p = binary.AppendUvarint(p, uint64(len(u.Snapshot)))
		return append(p, u.Snapshot...)
	}
	p = binary.AppendUvarint(p, uint64(len(u.Slots)))
	for _, slot := range u.Slots {
		p = appendPosition(p, slot.At)
		p = binary.AppendUvarint(p, uint64(len(slot.Entries)))
		for _, e := range slot.Entries {
			p = binary.AppendUvarint(p, uint64(e.Kind))
			p = binary.AppendUvarint(p, uint64(len(e.Body)))
			p = append(p, e.Body...)
		}
	}
	return p
}

func flag(x bool) byte {
	if x {
		return 1
	}
	return 0
}

func appendPosition(p []byte, at journal.Position) []byte {
	p = binary.AppendUvarint(p, at.Epoch)
	return binary.AppendUvarint(p, at.Slot)
}

// catalogueDecoder takes an answer apart.
type catalogueDecoder struct{ coding.Decoder }

func (d *catalogueDecoder) position() journal.Position {
	return journal.Position{Epoch: d.Uvarint(), Slot: d.Uvarint()}
}

func (d *catalogueDecoder) flag() bool {
	x := d.Byte()
	if x > 1 {
		d.Fail()
	}
	return x == 1
}

// decodeCatalogue is the inverse of append. The result aliases body.
func decodeCatalogue(body []byte) (*Catalogue, error) {
	d := catalogueDecoder{coding.NewDecoder(body)}
	if version := d.Byte(); version != catalogueVersion && !d.Bad() {
		return nil, fmt.Errorf("%w: catalogue of version %d", errAnswer, version)
	}
	c := &Catalogue{Epoch: d.Int31(), Cluster: d.String(), Offsets: d.flag()}
	u := &c.Update
	u.At = d.position()
	if d.flag() {
		u.Snapshot = d.Bytes()
		if u.Snapshot == nil {
			u.Snapshot = []byte{}
		}
	} else {
		u.Slots = d.slots()
	}
	if !d.Done() {
		return nil, fmt.Errorf("%w: a catalogue of %d bytes is malformed", errAnswer, len(body))
	}
	return c, nil
}

// The least bytes that things take.
const (
	minSlot  = 1 + 1 + 1
	minEntry = 1 + 1
)

func (d *catalogueDecoder) slots() (slots []commitlog.CatalogueSlot) {
	for range d.Count(minSlot) {
		slot := commitlog.CatalogueSlot{At: d.position()}
		for range d.Count(minEntry) {
			slot.Entries = append(slot.Entries, journal.Entry{Kind: uint16(d.UpTo(math.MaxUint16)), Body: d.Bytes()})
		}
		slots = append(slots, slot)
	}
	return slots
}

// Catalogue asks a node, by its name and host:port.
//
// Errors: ErrUnknownVerb, ErrNoCopy, ErrTooLarge; any other means that no answer came.
func (c *Client) Catalogue(ctx context.Context, node, address string, q CatalogueQuestion) (*Catalogue, error) {
	key := node + "\n" + address + "\n" + cataloguePath // a connection of its own, so that pings do not wait behind it
	l := c.link(key, node, address)
	got, err := l.catalogue(ctx, q)
	switch {
	case err == nil, errors.Is(err, ErrUnknownVerb), errors.Is(err, ErrNoCopy), errors.Is(err, ErrTooLarge):
		return got, err
	case !errors.Is(context.Cause(ctx), ErrInterrupted):
		c.drop(key, l)
	}
	return nil, fmt.Errorf("catalogue of node %q at %s: %w", node, address, err)
}

func (l *link) catalogue(ctx context.Context, q CatalogueQuestion) (*Catalogue, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node"+cataloguePath+"?"+q.values().Encode(), nil)
	if err != nil {
		return nil, err
	}
	res, err := l.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, refusalOf(res)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxCatalogue+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxCatalogue {
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrTooLarge, maxCatalogue)
	}
	return decodeCatalogue(body)
}
