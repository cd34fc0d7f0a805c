package declaration

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// Exchange reads the arguments of a declaration, whose other fields x has. Errors:
// *wire.Error.
func Exchange(vhost string, x routing.Exchange, arguments wire.Table) (routing.Exchange, error) {
	x.Arguments = arguments.Raw()
	for _, a := range []struct {
		key  string
		into *string
	}{
		{"alternate-exchange", &x.Alternate}, {"x-delayed-type", &x.DelayedType},
		{"hash-header", &x.HashHeader}, {"hash-property", &x.HashProperty},
	} {
		v := arguments.Lookup(a.key)
		if !v.Exists() {
			continue
		}
		text, ok := v.Bytes()
		if !ok {
			return x, refused(wire.PreconditionFailed, "invalid type '%v' for arg '%s' in %s", v.Kind(), a.key, AnExchange.In(vhost, x.Name))
		}
		*a.into = string(text)
	}
	if x.Type == routing.Deduplication {
		if n, ok := positive(arguments.Lookup("x-cache-size")); ok {
			x.CacheSize = min(n, most)
		} else {
			return x, refused(wire.PreconditionFailed, "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0")
		}
		if v := arguments.Lookup("x-cache-ttl"); v.Exists() {
			n, ok := positive(v)
			if !ok || n > maxMillis {
				return x, refused(wire.PreconditionFailed, "Invalid argument, 'x-cache-ttl' must be an integer greater than 0")
			}
			x.CacheTTL = n
		}
	}
	return x, nil
}

// positive reads an integer greater than 0, or a text that is one.
func positive(v wire.Value) (int64, bool) {
	n, ok := v.Int()
	if text, is := v.Bytes(); is {
		var err error
		n, err = strconv.ParseInt(string(text), 10, 64)
		ok = err == nil
	}
	return n, ok && n > 0
}

// Binding reads the arguments of a binding of the exchange x, whose other fields b has.
// Two bindings whose arguments differ only in their order are the same. Errors:
// *wire.Error.
func Binding(b routing.Binding, x routing.Exchange, arguments wire.Table) (routing.Binding, error) {
	type argument struct {
		name  string
		value wire.Value
	}
	var all []argument
	for name, v := range arguments.All() {
		all = append(all, argument{name, v})
	}
	slices.SortStableFunc(all, func(a, b argument) int { return cmp.Compare(a.name, b.name) })
	var sorted wire.Builder
	for _, a := range all {
		sorted.Add(a.name, a.value)
	}
	t, err := sorted.Table()
	if err != nil {
		return b, err
	}
	b.Arguments = t.Raw()
	if x.Type != routing.Headers && x.DelayedType != routing.Headers {
		return b, nil
	}
	for _, a := range all {
		if a.name != "x-match" {
			b.Match.Headers = append(b.Match.Headers, routing.Header{Name: a.name, Value: headerValue(a.value)})
		}
	}
	mode := t.Lookup("x-match")
	if !mode.Exists() {
		return b, nil
	}
	text, ok := mode.Bytes()
	if !ok || mode.Kind() != wire.KindString {
		return b, refused(wire.PreconditionFailed, "Invalid x-match field type %v (value %v); expected longstr", mode.Kind(), mode)
	}
	if b.Match.Mode, err = routing.ParseMode(string(text)); err != nil {
		return b, refused(wire.PreconditionFailed, "Invalid x-match field value <<\"%s\">>; expected all, any, all-with-x, or any-with-x", text)
	}
	return b, nil
}

// headerValue returns a value as a headers exchange compares it.
func headerValue(v wire.Value) routing.Value {
	if n, ok := v.Int(); ok {
		return routing.IntValue(n)
	}
	if f, ok := v.Float(); ok {
		return routing.FloatValue(f)
	}
	if p, ok := v.Bytes(); ok {
		return routing.TextValue(string(p))
	}
	if set, ok := v.Bool(); ok {
		return routing.BoolValue(set)
	}
	if t, ok := v.Timestamp(); ok {
		return routing.UintValue(t)
	}
	if v.Kind() == wire.KindVoid {
		return routing.Value{}
	}
	return routing.Value{Kind: routing.Encoded, Text: string(v.Raw())}
}
