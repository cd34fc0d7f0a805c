package configs

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestBytes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "512": 512, "512b": 512, "10MB": 1e7, "10 mb": 1e7, "1.5GiB": 3 << 29, "1k": 1000, "1KiB": 1024,
		"2T": 2e12, "-1": -1, "9223372036854775807": 1<<63 - 1} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MB", "x", "10 MBs", "1e3", "0x10", "inf", "nan", "10000000TB", "1,5MB"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 1234: "1.2 kB", 99_960: "100 kB", 123_456: "123 kB", 999_700: "1 MB", 3 << 30: "3.2 GB", -2000: "-2 kB"} {
		if got := FormatBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"7d": 7 * day, "1w": 7 * day, "1w2d12h": 9*day + 12*time.Hour, "1.5d": 36 * time.Hour, "90s": 90 * time.Second,
		"0": 0, "100ms": 100 * time.Millisecond, " 1h ": time.Hour} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "7", "7 days", "-1d", "1d-1h", "2d1w", "999999999w"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", 1500 * time.Microsecond: "2ms", 12340 * time.Millisecond: "12.3s", 90 * time.Second: "1m30s",
		5 * time.Minute: "5m", 90 * time.Minute: "1h30m", 2 * time.Hour: "2h", 3 * day: "3d", 3*day + 5*time.Hour: "3d5h", -time.Minute: "-1m"} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%v: %q, want %q", time.Duration(d), got, want)
		}
	}
}

func TestBytesFlag(t *testing.T) {
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	var n int64
	BytesVar(fs, &n, "most", 7, "how much")
	if n != 7 {
		t.Errorf("the default is %d", n)
	}
	if err := fs.Parse([]string{"--most", "2MB"}); err != nil || n != 2e6 {
		t.Errorf("%d, %v", n, err)
	}
	for n, want := range map[int64]string{0: "0", 7: "7", 1 << 30: "1GiB", 3 << 20: "3MiB", 5_000_000: "5MB", 1536: "1536", 2000: "2kB", 950_000: "950kB"} {
		if got := (bytesValue[int64]{&n}).String(); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if err := fs.Parse([]string{"--most", "much"}); err == nil {
		t.Error("much is a size")
	}
}

func TestDurationFlag(t *testing.T) {
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	var d time.Duration
	DurationVar(fs, &d, "life", time.Hour, "how long")
	if d != time.Hour || fs.Lookup("life").DefValue != "1h" {
		t.Errorf("the default is %v", d)
	}
	for text, want := range map[string]string{"0": "0", "90s": "1m30s", "60s": "1m", "10m": "10m", "1h30m": "1h30m", "1h10s": "1h0m10s", "1w": "7d", "36h": "36h", "100ms": "100ms", "-1s": "-1s"} {
		if err := fs.Set("life", text); err != nil || fs.Lookup("life").Value.String() != want {
			t.Errorf("%s is shown as %s, not as %s: %v", text, fs.Lookup("life").Value, want, err)
		}
	}
	if err := fs.Parse([]string{"--life", "2d"}); err != nil || d != 48*time.Hour {
		t.Errorf("%v, %v", d, err)
	}
	if err := fs.Parse([]string{"--life", "long"}); err == nil {
		t.Error("long is a time span")
	}
}
