package configs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

type settings struct {
	fs      *pflag.FlagSet
	kafka   *string
	devices *int
	list    *[]string
}

func newSettings() settings {
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	return settings{fs,
		fs.String("kafka", "127.0.0.1:9092", "listener"),
		fs.Int("devices", 50, "how many"),
		fs.StringSlice("broker", nil, "addresses")}
}

func write(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	file := write(t, "kafka: file:1\ndevices: 7\nbroker: [a, b]\n")
	s := newSettings()
	err := Load(Program{Name: "t"}, s.fs, []string{"--kafka", "flag:1", "rest"},
		[]string{"T_KAFKA=env:1", "T_DEVICES=9", "T_CONFIG=" + file}, &strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	// --config itself may come from a variable; it is read after the variables.
	if *s.kafka != "flag:1" || *s.devices != 9 || strings.Join(*s.list, "+") != "a+b" || s.fs.Arg(0) != "rest" {
		t.Fatalf("got %q %d %v %v", *s.kafka, *s.devices, *s.list, s.fs.Args())
	}
}

func TestMistakesNameTheNearest(t *testing.T) {
	for _, c := range []struct {
		args, env []string
		yaml      string
		want      string
	}{
		{args: []string{"--kafak", "x"}, want: "unknown flag --kafak (did you mean --kafka?)"},
		{args: []string{"--zzz"}, want: "unknown flag --zzz"},
		{yaml: "devics: 3\n", want: `line 1: unknown key "devics" (did you mean devices?)`},
		{args: []string{"--devices"}, want: "--devices needs a value"},
		{args: []string{"-x"}, want: "unknown flag -x"},
		{args: []string{"--=3"}, want: "--=3 is not a flag"},
		{args: []string{"--devices", "many"}, want: `--devices: "many" must be an integer`},
		{args: []string{"--help=perhaps"}, want: `--help: "perhaps" must be true or false`},
		{yaml: "\ndevices: many\n", want: `line 2: key "devices": "many" must be an integer`},
		{yaml: "devices: {a: 1}\n", want: "value must be plain"},
		{yaml: "config: x\n", want: `unknown key "config"`},
		{yaml: "a: [\n", want: "parse YAML"},
		{env: []string{"T_DEVICES=x"}, want: `variable T_DEVICES: "x" must be an integer`},
		{args: []string{"--config", "/does/not/exist"}, want: "read --config"},
	} {
		s := newSettings()
		args := c.args
		if c.yaml != "" {
			args = append(args, "--config", write(t, c.yaml))
		}
		err := Load(Program{Name: "t"}, s.fs, args, c.env, &strings.Builder{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %v %q: got %v, want %q", c.args, c.env, c.yaml, err, c.want)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"--version"}} {
		var out strings.Builder
		if err := Load(Program{Name: "t", Summary: "Tests."}, newSettings().fs, args, nil, &out); !errors.Is(err, ErrDone) {
			t.Errorf("%v: %v", args, err)
		}
		if out.Len() == 0 {
			t.Errorf("%v printed nothing", args)
		}
	}
}

func TestCheckListener(t *testing.T) {
	for _, c := range []struct {
		addr        string
		allowed, ok bool
	}{
		{"off", false, true},
		{"127.0.0.1:1883", false, true},
		{"[::1]:1883", false, true},
		{"localhost:0", false, true},
		{":1883", false, false},
		{"0.0.0.0:1883", false, false},
		{"192.0.2.1:1883", false, false},
		{":1883", true, true},
		{"1883", true, false},
		{"127.0.0.1", true, false},
		{"127.0.0.1:", true, false},
		{"", true, false},
	} {
		if err := CheckListener("--mqtt", c.addr, c.allowed, "set a password"); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestRepeated: a flag that may be given more than once is a list in the file,
// whose elements may be mappings.
func TestRepeated(t *testing.T) {
	for yaml, want := range map[string]string{
		"at: a":                            "a",
		"at: [a, 'b,c']":                   "a b,c",
		"at: {x: 1, y: [2, 3]}":            "x=1,y=2,3",
		"at:\n  - a\n  - x: 1\n    y: 2\n": "a x=1,y=2",
		"at: [[a]]":                        "mappings",
		"at: [{x: {y: 1}}]":                "plain",
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
		at := fs.StringArray("at", []string{"default"}, "")
		got := ""
		if err := Load(Program{Name: "x"}, fs, []string{"--config", path}, nil, io.Discard); err != nil {
			got = err.Error()
		} else {
			got = strings.Join(*at, " ")
		}
		if got != want && (strings.ContainsAny(want, " =") || !strings.Contains(got, want)) {
			t.Errorf("%s: %s", yaml, got)
		}
	}
	fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
	at := fs.StringArray("at", []string{"default"}, "")
	if err := Load(Program{Name: "x"}, fs, nil, []string{"X_AT=a;b,c"}, io.Discard); err != nil || strings.Join(*at, " ") != "a b,c" {
		t.Errorf("%v, %q", err, *at)
	}
}

// TestVariables: a variable carries the name of the binary, so that two binaries do
// not read each other's. The old names are read, with a word.
func TestVariables(t *testing.T) {
	for _, c := range []struct {
		program, environ, want, warning string
	}{
		{"weir-edge", "WEIR_EDGE_CLOUD=new", "new", ""},
		{"weir-edge", "WEIR_CLOUD=old", "old", "weir-edge: variable WEIR_CLOUD is now called WEIR_EDGE_CLOUD"},
		{"weir-edge", "WEIR_CLOUD=old WEIR_EDGE_CLOUD=new", "new", ""},
		{"weir-edge", "WEIRCTL_CLOUD=other", "", ""},
		{"weirctl topics", "WEIR_EDGE_CLOUD=other", "", ""},
		{"weirctl topics", "WEIRCTL_CLOUD=new", "new", ""},
		{"weirctl topics", "WEIR_CLOUD=old", "old", "weirctl: variable WEIR_CLOUD is now called WEIRCTL_CLOUD"},
		{"weir-cloud", "WEIR_CLOUD_CLOUD=new", "new", ""},
		{"young", "WEIR_CLOUD=old", "", ""},
		{"weir-edge", "WEIR_EDGE_HELP=true WEIR_VERSION=true", "", ""},
	} {
		fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
		cloud := fs.String("cloud", "", "")
		var warnings strings.Builder
		p := Program{Name: c.program, Warnings: &warnings}
		if c.program == "young" {
			p.New = []string{"cloud"}
		}
		err := Load(p, fs, nil, strings.Fields(c.environ), io.Discard)
		if err != nil || *cloud != c.want || !strings.HasPrefix(warnings.String(), c.warning) || (c.warning == "") != (warnings.Len() == 0) || strings.Count(warnings.String(), "\n") > 1 {
			t.Errorf("%s with %s: %q, %v; warned %q", c.program, c.environ, *cloud, err, &warnings)
		}
	}
}

// TestCheckAdmin: an admin port without TLS is for this machine, unless that is meant.
func TestCheckAdmin(t *testing.T) {
	for _, c := range []struct {
		addr, cert, key string
		withoutTLS, ok  bool
	}{
		{"off", "", "", false, true},
		{"127.0.0.1:8080", "", "", false, true},
		{"[::1]:8080", "", "", false, true},
		{":8080", "", "", false, false},
		{"192.0.2.1:8080", "", "", false, false},
		{":8080", "c", "k", false, true},
		{":8080", "", "", true, true},
		{"127.0.0.1:8080", "c", "", false, false},
		{"127.0.0.1:8080", "", "k", true, false},
		{"8080", "", "", true, false},
	} {
		if err := CheckAdmin(c.addr, c.cert, c.key, c.withoutTLS); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
