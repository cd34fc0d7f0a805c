package declaration

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
)

// table makes a table of names and values in turns.
func table(t *testing.T, all ...any) wire.Table {
	t.Helper()
	var b wire.Builder
	for i := 0; i < len(all); i += 2 {
		b.Add(all[i].(string), all[i+1].(wire.Value))
	}
	made, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestSettings: what each argument means. The texts of bad ones are in the scripts of
// e2e/amqp.
func TestSettings(t *testing.T) {
	unset := func(change func(*state.Settings)) state.Settings {
		s := state.Settings{Durable: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
		change(&s)
		return s
	}
	for _, c := range []struct {
		name   string
		value  wire.Value
		change func(*state.Settings)
	}{
		{"x-message-ttl", wire.Int32(0), func(s *state.Settings) { s.TTL = 0 }},
		{"x-message-ttl", wire.Int64(1500), func(s *state.Settings) { s.TTL = 1500 * time.Millisecond }},
		{"x-expires", wire.Int32(1), func(s *state.Settings) { s.Expires = time.Millisecond }},
		{"x-max-length", wire.Int32(0), func(s *state.Settings) { s.MaxLength = 0 }},
		{"x-max-length-bytes", wire.Int64(1 << 40), func(s *state.Settings) { s.MaxBytes = 1 << 40 }},
		{"x-overflow", wire.Text("reject-publish"), func(s *state.Settings) { s.Overflow = state.RejectPublish }},
		{"x-overflow", wire.Text("reject-publish-dlx"), func(s *state.Settings) { s.Overflow = state.RejectPublishDLX }},
		{"x-overflow", wire.Text("drop-head"), func(s *state.Settings) {}},
		{"x-dead-letter-exchange", wire.Text(""), func(s *state.Settings) { s.DeadLetter = &state.DeadLetter{} }},
		{"x-max-priority", wire.Int32(255), func(s *state.Settings) { s.MaxPriority = 255 }},
		{"x-single-active-consumer", wire.Bool(true), func(s *state.Settings) { s.SingleActive = true }},
		{"x-delivery-limit", wire.Int32(0), func(s *state.Settings) { s.DeliveryLimit = 0 }},
		{"x-message-deduplication", wire.Bool(true), func(s *state.Settings) { s.Deduplicate = true }},
		{"x-message-groups", wire.Bool(true), func(s *state.Settings) { s.Groups = true }},
		{"x-queue-mode", wire.Text("lazy"), func(s *state.Settings) {}},
		{"x-own-argument", wire.Text("is kept"), func(s *state.Settings) {}},
	} {
		q := Queue{Vhost: "/", Name: "q", Durable: true, Arguments: table(t, c.name, c.value)}
		got, err := q.Settings()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		want := unset(c.change)
		if string(got.Arguments) != string(q.Arguments.Raw()) {
			t.Errorf("%s: the argument is not kept", c.name)
		}
		got.Arguments = nil
		if (got.DeadLetter == nil) != (want.DeadLetter == nil) {
			t.Errorf("%s: dead letters %v", c.name, got.DeadLetter)
		}
		got.DeadLetter, want.DeadLetter = nil, nil
		if got.TTL != want.TTL || got.Expires != want.Expires || got.MaxLength != want.MaxLength || got.MaxBytes != want.MaxBytes ||
			got.Overflow != want.Overflow || got.MaxPriority != want.MaxPriority || got.SingleActive != want.SingleActive ||
			got.DeliveryLimit != want.DeliveryLimit || got.Deduplicate != want.Deduplicate || got.Groups != want.Groups || got.Durable != want.Durable {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
	}
}

// TestProperties: an expiration is a number of milliseconds as Erlang reads one, CC and BCC
// are arrays, and a user does not publish in the name of another.
func TestProperties(t *testing.T) {
	for text, want := range map[string]string{
		"0": "", "60000": "", "+5": "", "-0": "", "4294967295": "",
		"": "no_integer", "soon": "no_integer", "--1": "no_integer", "1.5": `{leftover_string,".5"}`, "10 s": `{leftover_string," s"}`,
		"-1": "{value_negative,-1}", "4294967296": "{value_too_big,4294967296}", "99999999999999999999999": "{value_too_big,99999999999999999999999}",
	} {
		err := Properties(&wire.Properties{Flags: wire.HasExpiration, Expiration: text}, "guest")
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("expiration %q: %v, want %q", text, err, want)
		}
	}
	for _, c := range []struct {
		p  wire.Properties
		ok bool
	}{
		{wire.Properties{Flags: wire.HasUserID, UserID: "guest"}, true},
		{wire.Properties{Flags: wire.HasUserID, UserID: "other"}, false},
		{wire.Properties{Flags: wire.HasHeaders, Headers: table(t, "CC", wire.List(wire.Text("a")))}, true},
		{wire.Properties{Flags: wire.HasHeaders, Headers: table(t, "BCC", wire.Text("a"))}, false},
	} {
		err := Properties(&c.p, "guest")
		if e, isWire := errors.AsType[*wire.Error](err); c.ok != (err == nil) || err != nil && (!isWire || e.Code != wire.PreconditionFailed) {
			t.Errorf("%+v: %v", c.p, err)
		}
	}
}

// TestHide: consumers see all headers but BCC.
func TestHide(t *testing.T) {
	p := wire.Properties{Flags: wire.HasHeaders, Headers: table(t, "a", wire.Int32(1), "BCC", wire.List(wire.Text("q")), "b", wire.Int32(2))}
	if Hide(&p); string(p.Headers.Raw()) != string(table(t, "a", wire.Int32(1), "b", wire.Int32(2)).Raw()) {
		t.Errorf("%q is left", p.Headers.Raw())
	}
	p = wire.Properties{Flags: wire.HasHeaders | wire.HasPriority, Headers: table(t, "BCC", wire.List(wire.Text("q")))}
	if Hide(&p); p.Flags != wire.HasPriority {
		t.Errorf("flags %v: an empty table is left", p.Flags)
	}
}

// TestBinding: bindings whose arguments differ in their order are the same one, and
// x-match says how headers are compared.
func TestBinding(t *testing.T) {
	headers := routing.Exchange{Name: "h", Type: routing.Headers}
	one, err := Binding(routing.Binding{}, headers, table(t, "x-match", wire.Text("any"), "b", wire.Int32(2), "a", wire.Text("x")))
	if err != nil {
		t.Fatal(err)
	}
	other, err := Binding(routing.Binding{}, headers, table(t, "a", wire.Text("x"), "x-match", wire.Text("any"), "b", wire.Int32(2)))
	if err != nil {
		t.Fatal(err)
	}
	if string(one.Arguments) != string(other.Arguments) || len(one.Match.Headers) != 2 {
		t.Errorf("%+v\n%+v", one, other)
	}
	if any, err := routing.ParseMode("any"); err != nil || one.Match.Mode != any {
		t.Errorf("mode %v, %v", one.Match.Mode, err)
	}
	direct, err := Binding(routing.Binding{}, routing.Exchange{Name: "d", Type: routing.Direct}, table(t, "x-match", wire.Int32(1)))
	if err != nil || len(direct.Match.Headers) > 0 {
		t.Errorf("a direct exchange looks at arguments: %+v, %v", direct, err)
	}
}
