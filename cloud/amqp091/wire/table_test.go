package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// everything is a table with a value of each type, as RabbitMQ was seen to give it back byte
// for byte.
const everything = "0174 7402 0162 62ff 0142 42ff 0173 73fffe 0175 75fffe 0149 49fffffffe 0169 69fffffffe" +
	"016c 6cffffffffffffffff 014c 4cffffffffffffffff 0166 663f800000 0164 643ff0000000000000 0144 44020000 0100" +
	"0153 53 00000001 78 0141 41 00000006 4900000001 56 0154 54 0000000000000001 0146 46 00000003 016156 0156 56 0178 78 00000001 ff"

func TestTypes(t *testing.T) {
	raw := unhex(t, everything)
	all, err := ParseTable(raw)
	if err != nil {
		t.Fatal(err)
	}
	var again Builder
	for name, v := range all.All() {
		again.Add(name, v)
	}
	if same, err := again.Table(); err != nil || !bytes.Equal(same.Raw(), raw) {
		t.Errorf("%x, %v", same.Raw(), err)
	}
	for name, want := range map[string]string{
		"t": "bool true", "b": "byte -1", "B": "unsignedbyte 255", "s": "short -2", "u": "unsignedshort 65534", "I": "signedint -2",
		"i": "unsignedint 4294967294", "l": "long -1", "L": "long -1", "f": "float 1.0", "d": "double 1.0", "D": "decimal {2,256}", "S": "longstr x",
		"A": "array [{signedint,1},{void,undefined}]", "T": "timestamp 1", "F": `table [{<<"a">>,void,undefined}]`, "V": "void undefined", "x": "binary \xff",
	} {
		if v := all.Lookup(name); v.Kind().String()+" "+v.String() != want {
			t.Errorf("%s: %v %v, want %s", name, v.Kind(), v, want)
		}
	}
	if all.Lookup("none").Exists() || all.Lookup("none").Kind() != 0 {
		t.Error("a name that is not there")
	}
	for n := range raw { // each cut is refused, unless it falls between two values
		if cut, err := ParseTable(raw[:n]); err == nil && !bytes.HasPrefix(raw, cut.Raw()) {
			t.Errorf("cut to %d", n)
		}
	}
}

// TestNames: names of every length come back.
func TestNames(t *testing.T) {
	for n := range MaxShortString + 1 {
		name := strings.Repeat("n", n)
		var b Builder
		b.Add(name, Int32(int32(n)))
		b.Add("other", Bool(true))
		made, err := b.Table()
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		var names []string
		for found := range made.All() {
			names = append(names, found)
		}
		if len(names) != 2 || names[0] != name || names[1] != "other" || !made.Lookup(name).Exists() || !made.Lookup("other").Exists() {
			t.Errorf("%d bytes: %q", n, names)
		}
	}
	var b Builder
	if b.Add(strings.Repeat("n", MaxShortString+1), Bool(true)); b.err == nil {
		t.Error("a name that is too long was added")
	}
}

func TestFirstNameCounts(t *testing.T) {
	dup, err := ParseTable(unhex(t, "016b 7401 016b 7400"))
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := dup.Lookup("k").Bool(); !v || !ok {
		t.Error("the last one counts")
	}
}

func TestBadTables(t *testing.T) {
	for _, bad := range []string{"01", "016b", "016b5a00", "016b4900", "016b53000000027a", "016b41000000015a", "016b46000000016b", "016b53ffffffff"} {
		if _, err := ParseTable(unhex(t, bad)); err == nil || err.Code != SyntaxError {
			t.Errorf("%s: %v", bad, err)
		}
	}
	nested := func(n int) Value {
		v := Void()
		for range n {
			v = List(v)
		}
		return v
	}
	if _, err := ParseTable(table(t, "k", nested(maxDepth)).Raw()); err != nil {
		t.Error(err)
	}
	var deep, long, none Builder
	deep.Add("k", nested(maxDepth+1))
	if _, err := deep.Table(); err == nil {
		t.Error("nested too deeply")
	}
	long.Add(strings.Repeat("x", 256), Void())
	if _, err := long.Table(); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	none.Add("k", Value{})
	if _, err := none.Table(); err == nil {
		t.Error("a name without a value")
	}
}

// The cases and texts are those of RabbitMQ 3.10.8: a queue was declared twice.
func TestInequivalence(t *testing.T) {
	value := func(h string) Value {
		if h == "" {
			return Value{}
		}
		made, err := ParseTable(append([]byte("\x01k"), unhex(t, h)...))
		if err != nil {
			t.Fatal(err)
		}
		return made.Lookup("k")
	}
	ten, dlx := "490000000a", "53 00000003 646c78"
	for _, x := range []struct{ current, received, want string }{
		{ten, "6c000000000000000a", ""}, {ten, "620a", ""}, {ten, "420a", ""}, {ten, "73000a", ""}, {ten, "75000a", ""},
		{ten, "690000000a", ""}, {ten, "4c000000000000000a", ""}, {ten, "54000000000000000a", ""},
		{ten, "53 00000002 3130", "received '10' but current is '10'"},
		{ten, "644024000000000000", "received '10.0' but current is '10'"},
		{ten, "66 41280000", "received '10.5' but current is '10'"},
		{ten, "490000000b", "received '11' but current is '10'"},
		{ten, "", "received none but current is the value '10' of type 'signedint'"},
		{"", ten, "received the value '10' of type 'signedint' but current is none"},
		{ten, "46 00000004 01617401", `received '[{<<"a">>,bool,true}]' but current is '10'`},
		{ten, "41 00000001 56", "received '[{void,undefined}]' but current is '10'"},
		{ten, "56", "received none but current is '10'"},
		{ten, "7401", "received 'true' but current is '10'"},
		{dlx, "78 00000003 646c78", ""},
		{dlx, "53 00000003 646c79", "received 'dly' but current is 'dlx'"},
		{dlx, "64 3fb999999999999a", "received '0.1' but current is 'dlx'"},
		{dlx, "46 00000013 01615300000005 68656c6c6f 01624900000001", `received '[{<<"a">>,longstr,<<"hello">>},{<<"b">>,signedint,1}]' but current is 'dlx'`},
		{"54ffffffffffffffff", "6cffffffffffffffff", "received '-1' but current is '18446744073709551615'"},
		{"", "", ""},
	} {
		var current, received Table
		if v := value(x.current); v.Exists() {
			current = table(t, "arg", v)
		}
		if v := value(x.received); v.Exists() {
			received = table(t, "arg", v)
		}
		if got := Inequivalence("arg", current, received); got != x.want {
			t.Errorf("%s and %s: %q, want %q", x.current, x.received, got, x.want)
		}
	}
	classic, quorum := table(t, "x-queue-type", Text("classic")), table(t, "x-queue-type", Text("quorum"))
	if Inequivalence("x-queue-type", classic, Table{}) != "" || Inequivalence("x-queue-type", Table{}, classic) != "" || Inequivalence("x-queue-type", Table{}, quorum) == "" {
		t.Error("a classic queue and one without a type")
	}
}
