package wire

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// ids are those of all methods.
func ids() []MethodID {
	var all []MethodID
	for class := range MethodID(100) {
		for method := range MethodID(130) {
			if id := class<<16 | method; NewMethod(id) != nil {
				all = append(all, id)
			}
		}
	}
	return all
}

func table(t testing.TB, name string, v Value) Table {
	t.Helper()
	var b Builder
	b.Add(name, v)
	made, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// vectors are written by hand from the specification: ids and arguments of each method.
func vectors(t testing.TB) map[string]Method {
	args := table(t, "k", Bool(true))
	return map[string]Method{
		"000a000a 00 09 00000004 016b7401 00000005 504c41494e 00000005 656e5f5553": &ConnectionStart{VersionMinor: 9, ServerProperties: args, Mechanisms: []byte("PLAIN"), Locales: []byte("en_US")},
		"000a000b 00000004 016b7401 05 504c41494e 00000004 00610062 05 656e5f5553": &ConnectionStartOk{ClientProperties: args, Mechanism: "PLAIN", Response: []byte("\x00a\x00b"), Locale: "en_US"},
		"000a0014 00000002 6869":            &ConnectionSecure{Challenge: []byte("hi")},
		"000a0015 00000002 6869":            &ConnectionSecureOk{Response: []byte("hi")},
		"000a001e 07ff 00020000 003c":       &ConnectionTune{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60},
		"000a001f 07ff 00020000 003c":       &ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60},
		"000a0028 01 2f 00 00":              &ConnectionOpen{VirtualHost: "/"},
		"000a0029 00":                       &ConnectionOpenOk{},
		"000a0032 00c8 03 627965 0032 000a": &ConnectionClose{ReplyCode: 200, ReplyText: "bye", ClassID: 50, MethodID: 10},
		"000a0033":                          &ConnectionCloseOk{},
		"000a003c 03 6d656d":                &ConnectionBlocked{Reason: "mem"},
		"000a003d":                          &ConnectionUnblocked{},
		"000a0046 00000001 73 01 72":        &ConnectionUpdateSecret{NewSecret: []byte("s"), Reason: "r"},
		"000a0047":                          &ConnectionUpdateSecretOk{},
		"0014000a 00":                       &ChannelOpen{},
		"0014000b 00000000":                 &ChannelOpenOk{},
		"00140014 01":                       &ChannelFlow{Active: true},
		"00140015 01":                       &ChannelFlowOk{Active: true},
		"00140028 0194 01 78 0032 000a":     &ChannelClose{ReplyCode: 404, ReplyText: "x", ClassID: 50, MethodID: 10},
		"00140029":                          &ChannelCloseOk{},
		"001e000a 05 2f64617461 15":         &AccessRequest{Realm: "/data", Exclusive: true, Active: true, Read: true},
		"001e000b 0001":                     &AccessRequestOk{Ticket: 1},
		"0028000a 0000 01 65 05 746f706963 1d 00000004 016b7401": &ExchangeDeclare{Exchange: "e", Type: "topic", Passive: true, AutoDelete: true, Internal: true, NoWait: true, Arguments: args},
		"0028000b":               &ExchangeDeclareOk{},
		"00280014 0000 01 65 03": &ExchangeDelete{Exchange: "e", IfUnused: true, NoWait: true},
		"00280015":               &ExchangeDeleteOk{},
		"0028001e 0000 01 64 01 73 01 72 01 00000004 016b7401": &ExchangeBind{Destination: "d", Source: "s", RoutingKey: "r", NoWait: true, Arguments: args},
		"0028001f": &ExchangeBindOk{},
		"00280028 0000 01 64 01 73 01 72 01 00000000": &ExchangeUnbind{Destination: "d", Source: "s", RoutingKey: "r", NoWait: true},
		"00280033": &ExchangeUnbindOk{},
		"0032000a 0000 01 71 16 00000004 016b7401":             &QueueDeclare{Queue: "q", Durable: true, Exclusive: true, NoWait: true, Arguments: args},
		"0032000b 01 71 00000007 00000002":                     &QueueDeclareOk{Queue: "q", MessageCount: 7, ConsumerCount: 2},
		"00320014 0000 01 71 01 65 01 72 00 00000004 016b7401": &QueueBind{Queue: "q", Exchange: "e", RoutingKey: "r", Arguments: args},
		"00320015":               &QueueBindOk{},
		"0032001e 0000 01 71 01": &QueuePurge{Queue: "q", NoWait: true},
		"0032001f 00000007":      &QueuePurgeOk{MessageCount: 7},
		"00320028 0000 01 71 06": &QueueDelete{Queue: "q", IfEmpty: true, NoWait: true},
		"00320029 00000007":      &QueueDeleteOk{MessageCount: 7},
		"00320032 0000 01 71 01 65 01 72 00000004 016b7401": &QueueUnbind{Queue: "q", Exchange: "e", RoutingKey: "r", Arguments: args},
		"00320033":                  &QueueUnbindOk{},
		"003c000a 00000000 000a 01": &BasicQos{PrefetchCount: 10, Global: true},
		"003c000b":                  &BasicQosOk{},
		"003c0014 0000 01 71 01 63 06 00000004 016b7401": &BasicConsume{Queue: "q", ConsumerTag: "c", NoAck: true, Exclusive: true, Arguments: args},
		"003c0015 01 63":                                    &BasicConsumeOk{ConsumerTag: "c"},
		"003c001e 01 63 01":                                 &BasicCancel{ConsumerTag: "c", NoWait: true},
		"003c001f 01 63":                                    &BasicCancelOk{ConsumerTag: "c"},
		"003c0028 0000 01 65 01 72 01":                      &BasicPublish{Exchange: "e", RoutingKey: "r", Mandatory: true},
		"003c0032 0138 08 4e4f5f524f555445 01 65 01 72":     &BasicReturn{ReplyCode: 312, ReplyText: "NO_ROUTE", Exchange: "e", RoutingKey: "r"},
		"003c003c 01 63 0000000000000009 01 01 65 01 72":    &BasicDeliver{ConsumerTag: "c", DeliveryTag: 9, Redelivered: true, Exchange: "e", RoutingKey: "r"},
		"003c0046 0000 01 71 01":                            &BasicGet{Queue: "q", NoAck: true},
		"003c0047 0000000000000009 00 01 65 01 72 00000003": &BasicGetOk{DeliveryTag: 9, Exchange: "e", RoutingKey: "r", MessageCount: 3},
		"003c0048 00":                                       &BasicGetEmpty{},
		"003c0050 0000000000000009 01":                      &BasicAck{DeliveryTag: 9, Multiple: true},
		"003c005a 0000000000000009 01":                      &BasicReject{DeliveryTag: 9, Requeue: true},
		"003c0064 01":                                       &BasicRecoverAsync{Requeue: true},
		"003c006e 01":                                       &BasicRecover{Requeue: true},
		"003c006f":                                          &BasicRecoverOk{},
		"003c0078 0000000000000009 02":                      &BasicNack{DeliveryTag: 9, Requeue: true},
		"0055000a 01":                                       &ConfirmSelect{NoWait: true},
		"0055000b":                                          &ConfirmSelectOk{},
		"005a000a":                                          &TxSelect{},
		"005a000b":                                          &TxSelectOk{},
		"005a0014":                                          &TxCommit{},
		"005a0015":                                          &TxCommitOk{},
		"005a001e":                                          &TxRollback{},
		"005a001f":                                          &TxRollbackOk{},
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestVectors(t *testing.T) {
	seen := make(map[MethodID]bool)
	for text, m := range vectors(t) {
		want := unhex(t, text)
		seen[m.ID()] = true
		args, err := m.Append(nil)
		if err != nil || hex.EncodeToString(args) != hex.EncodeToString(want[4:]) {
			t.Errorf("%v: %x, %v, want %x", m.ID(), args, err, want[4:])
		}
		got, err := ParseMethod(want)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%v: got %+v, %v", m.ID(), got, err)
		}
	}
	for _, id := range ids() {
		if !seen[id] {
			t.Errorf("%v has no vector", id)
		}
	}
}

// fill sets the fields of a struct to random values.
func fill(t testing.TB, r *rand.Rand, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch p := f.Addr().Interface().(type) {
		case *string:
			*p = strings.Repeat("ä", r.IntN(127))
		case *[]byte:
			*p = []byte(strings.Repeat("x", 1+r.IntN(1000)))
		case *bool:
			*p = r.IntN(2) == 0
		case *Table:
			*p = table(t, "name", List(Int32(int32(r.Uint32())), Nested(table(t, "a", Double(r.Float64())))))
		case *PropertyFlags:
			*p = ^moreFlags
		default:
			f.SetUint(r.Uint64() >> (64 - f.Type().Bits()))
		}
	}
}

func TestRoundTripsAndCuts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, id := range ids() {
		for range 20 {
			m, got := NewMethod(id), NewMethod(id)
			fill(t, r, reflect.ValueOf(m).Elem())
			args, err := m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := got.Decode(args); err != nil || !reflect.DeepEqual(got, m) {
				t.Fatalf("%v: got %+v, %v, want %+v", id, got, err, m)
			}
			for _, bad := range [][]byte{args[:max(len(args)-1, 0)], append(args, 0)} {
				var e *Error
				if err := NewMethod(id).Decode(bad); len(args) > 0 && (!errors.As(err, &e) || !e.Code.Hard() || e.Method != id) {
					t.Fatalf("%v: cut or extended: %v", id, err)
				}
			}
		}
	}
}

func TestWhoSendsWhat(t *testing.T) {
	for id, want := range map[MethodID][4]bool{ // client, server, synchronous, content
		IDConnectionStart: {false, true, true, false}, IDBasicPublish: {true, false, false, true}, IDBasicDeliver: {false, true, false, true},
		IDBasicAck: {true, true, false, false}, IDBasicCancel: {true, true, true, false}, IDBasicGetOk: {false, true, false, true},
		IDBasicReturn: {false, true, false, true}, IDQueueDeclare: {true, false, true, false}, 60<<16 | 99: {},
	} {
		if got := [4]bool{id.SentBy(Client), id.SentBy(Server), id.Synchronous(), id.Content()}; got != want {
			t.Errorf("%v: %v, want %v", id, got, want)
		}
	}
	if IDExchangeUnbindOk.String() != "exchange.unbind-ok" || MethodID(60<<16|99).String() != "method 60.99" {
		t.Error(IDExchangeUnbindOk, MethodID(60<<16|99))
	}
}

func TestProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var all, got Properties
	fill(t, r, reflect.ValueOf(&all).Elem())
	raw, err := all.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Decode(raw); err != nil || !reflect.DeepEqual(got, all) {
		t.Fatalf("got %+v, %v, want %+v", got, err, all)
	}
	// In the order of the flags, those from the highest bit: content type, then expiration.
	if err := got.Decode(unhex(t, "8100 03 612f62 00")); err != nil || !reflect.DeepEqual(got, Properties{Flags: HasContentType | HasExpiration, ContentType: "a/b"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "80", "8000", "8000 03 6162", "8000 01 61 00", "8001 0000 01 61", "2000 00000003 016b5a", "ffff"} {
		var e *Error
		if err := got.Decode(unhex(t, bad)); !errors.As(err, &e) || e.Code != SyntaxError {
			t.Errorf("%s: %v", bad, err)
		}
	}
	long := Properties{Flags: HasAppID, AppID: strings.Repeat("x", 256)}
	if _, err := long.Append(nil); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	if _, err := (&Properties{Flags: moreFlags}).Append(nil); err == nil {
		t.Error("continued flags are written")
	}
}

func TestLongNames(t *testing.T) {
	if b, err := (&QueueDeclare{Queue: strings.Repeat("x", 256)}).Append([]byte("a")); !errors.Is(err, ErrTooLong) || string(b) != "a" {
		t.Errorf("%q, %v", b, err)
	}
}

// unhexSeed is unhex for the corpus of a fuzz target.
func unhexSeed(s string) []byte {
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return p
}
