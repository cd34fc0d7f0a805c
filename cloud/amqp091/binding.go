package amqp091

import (
	"slices"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// readBinding sets the arguments of a binding to the exchange x, and checks whether the
// client may use its key. Two bindings whose arguments differ only in their order are the
// same.
func (c *conn) readBinding(b *routing.Binding, x routing.Exchange, arguments wire.Table) error {
	if x.Type == routing.Topic {
		if err := c.mayReadTopic(b.Source, b.Key); err != nil {
			return err
		}
	}
	type argument struct {
		name  string
		value wire.Value
	}
	var all []argument
	for name, v := range arguments.All() {
		all = append(all, argument{name, v})
	}
	slices.SortStableFunc(all, func(a, b argument) int { return compare(a.name, b.name) })
	var sorted wire.Builder
	for _, a := range all {
		sorted.Add(a.name, a.value)
	}
	t, err := sorted.Table()
	if err != nil {
		return err
	}
	b.Arguments = t.Raw()
	if x.Type != routing.Headers && x.DelayedType != routing.Headers {
		return nil
	}
	for _, a := range all {
		if a.name != "x-match" {
			b.Match.Headers = append(b.Match.Headers, routing.Header{Name: a.name, Value: headerValue(a.value)})
		}
	}
	mode := t.Lookup("x-match")
	if !mode.Exists() {
		return nil
	}
	text, ok := mode.Bytes()
	if !ok || mode.Kind() != wire.KindString {
		return refused(wire.PreconditionFailed, "Invalid x-match field type %v (value %v); expected longstr", mode.Kind(), mode)
	}
	if b.Match.Mode, err = routing.ParseMode(string(text)); err != nil {
		return refused(wire.PreconditionFailed, "Invalid x-match field value <<\"%s\">>; expected all, any, all-with-x, or any-with-x", text)
	}
	return nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
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
