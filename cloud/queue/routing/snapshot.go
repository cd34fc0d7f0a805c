package routing

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"github.com/weirmq/weir/storage/coding"
)

// A snapshot, with varints and strings as storage/coding writes them:
//
//	1                               the version
//	count, name ...                 queues, in order of their names
//	count, exchange ...             exchanges but the predeclared ones, in order:
//	    name, type, flags, alternate, delayed type, hash header, hash property, arguments,
//	    cache size, cache ttl
//	for each exchange, in order of all names:
//	    count, binding ...          in the order of Bindings:
//	        number of a queue or an exchange << 1 | 1 for an exchange, key, arguments
//	        of a headers exchange also: mode, count, header ... (name, kind, bits, text)
//
// Equal tables have equal bytes, and no other bytes are restored.
const version = 1

const (
	flagDurable = 1 << iota
	flagAutoDelete
	flagInternal
)

func (t *Table) names() []string { return slices.Sorted(maps.Keys(t.exchanges)) }

// Snapshot returns the state of t.
func (t *Table) Snapshot() []byte {
	b := binary.AppendUvarint([]byte{version}, uint64(len(t.queues)))
	numbers := make(map[*destination]uint64, len(t.queues)+len(t.exchanges))
	for i, name := range t.Queues() {
		b = coding.AppendString(b, name)
		numbers[t.queues[name]] = uint64(i) << 1
	}
	names, fixed := t.names(), predeclared()
	b = binary.AppendUvarint(b, uint64(len(names)-len(fixed)))
	for i, name := range names {
		x := t.exchanges[name]
		numbers[&x.destination] = uint64(i)<<1 | 1
		if !slices.ContainsFunc(fixed, func(f Exchange) bool { return f.Name == name }) {
			b = x.append(b)
		}
	}
	for _, name := range names {
		x := t.exchanges[name]
		b = binary.AppendUvarint(b, uint64(len(x.out)))
		for _, d := range x.ordered() {
			b = binary.AppendUvarint(b, numbers[d.to])
			b = coding.AppendString(coding.AppendString(b, d.key), d.args)
			if d.match != nil {
				b = d.match.append(b)
			}
		}
	}
	return b
}

func (x *Exchange) append(b []byte) []byte {
	b = append(coding.AppendString(b, x.Name), byte(slices.Index(types[:], x.Type)))
	flags := byte(0)
	for _, f := range []struct {
		set bool
		bit byte
	}{{x.Durable, flagDurable}, {x.AutoDelete, flagAutoDelete}, {x.Internal, flagInternal}} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(b, flags)
	for _, s := range []string{x.Alternate, x.DelayedType, x.HashHeader, x.HashProperty, string(x.Arguments)} {
		b = coding.AppendString(b, s)
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(x.CacheSize)), uint64(x.CacheTTL))
}

func (m *Match) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, byte(m.Mode)), uint64(len(m.Headers)))
	for _, h := range m.Headers {
		b = append(coding.AppendString(b, h.Name), byte(h.Value.Kind))
		b = coding.AppendString(binary.AppendUvarint(b, h.Value.Bits), h.Value.Text)
	}
	return b
}

// Restore returns the table of a snapshot, or ErrCorrupt.
func Restore(body []byte) (*Table, error) {
	t, d := New(), coding.NewDecoder(body)
	if d.Byte() != version {
		return nil, ErrCorrupt
	}
	queues := make([]string, 0, d.Count(1))
	for range cap(queues) {
		queues = append(queues, d.String())
		t.QueueDeclared(queues[len(queues)-1])
	}
	declared := make([]string, 0, d.Count(10))
	for range cap(declared) {
		x := takeExchange(&d)
		declared = append(declared, x.Name)
		if created, err := t.Declare(x); err != nil || !created {
			return nil, ErrCorrupt
		}
	}
	if d.Bad() || !ascending(queues) || !ascending(declared) {
		return nil, ErrCorrupt
	}
	names := t.names()
	for _, name := range names {
		if !t.takeBindings(&d, t.exchanges[name], queues, names) {
			return nil, ErrCorrupt
		}
	}
	if !d.Done() {
		return nil, ErrCorrupt
	}
	return t, nil
}

func ascending(s []string) bool {
	for i := 1; i < len(s); i++ {
		if s[i-1] >= s[i] {
			return false
		}
	}
	return true
}

func takeExchange(d *coding.Decoder) Exchange {
	x := Exchange{Name: d.String()}
	kind, flags := int(d.Byte()), d.Byte()
	if kind >= len(types) || flags > flagDurable|flagAutoDelete|flagInternal {
		d.Fail()
		return x
	}
	x.Type = types[kind]
	x.Durable, x.AutoDelete, x.Internal = flags&flagDurable != 0, flags&flagAutoDelete != 0, flags&flagInternal != 0
	x.Alternate, x.DelayedType, x.HashHeader, x.HashProperty = d.String(), d.String(), d.String(), d.String()
	x.Arguments = d.Bytes()
	x.CacheSize, x.CacheTTL = int64(d.UpTo(math.MaxInt64)), int64(d.UpTo(math.MaxInt64))
	return x
}

// takeBindings reads the bindings of x and reports whether they are as Snapshot writes them.
func (t *Table) takeBindings(d *coding.Decoder, x *exchange, queues, names []string) bool {
	for range d.Count(3) {
		b := Binding{Source: x.name}
		number := d.Uvarint()
		from := queues
		if b.ToExchange = number&1 != 0; b.ToExchange {
			from = names
		}
		if number>>1 >= uint64(len(from)) {
			return false
		}
		b.Destination, b.Key, b.Arguments = from[number>>1], d.String(), d.Bytes()
		if x.routes() == Headers {
			b.Match = takeMatch(d)
		}
		if d.Bad() {
			return false
		}
		if created, err := t.Bind(b); err != nil || !created {
			return false
		}
		last := x.out[len(x.out)-1]
		if last.match != nil && len(last.match.Headers) != len(b.Match.Headers) {
			return false
		}
		if n := len(x.out); n > 1 && x.routes() != ConsistentHash && compareBindings(x.out[n-2], last) >= 0 {
			return false
		}
	}
	return !d.Bad()
}

func takeMatch(d *coding.Decoder) Match {
	m := Match{Mode: Mode(d.Byte())}
	m.Headers = make([]Header, 0, d.Count(4))
	for range cap(m.Headers) {
		h := Header{Name: d.String()}
		h.Value = Value{Kind: Kind(d.Byte()), Bits: d.Uvarint(), Text: d.String()}
		m.Headers = append(m.Headers, h)
		if n := len(m.Headers); n > 1 && m.Headers[n-2].Name > h.Name {
			d.Fail()
		}
	}
	return m
}
