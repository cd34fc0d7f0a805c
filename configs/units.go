package configs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// byteUnits are those of sizes: of thousands and of 1024s. Longer ones come first.
var byteUnits = []struct {
	name  string
	bytes float64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12},
	{"k", 1e3}, {"m", 1e6}, {"g", 1e9}, {"t", 1e12}, {"b", 1},
}

// ParseBytes reads a number of bytes, plain or with a unit: 512, 10MB, 1.5 GiB. MB is a
// million bytes, MiB is 1024 times 1024; the case of the letters does not matter.
func ParseBytes(s string) (int64, error) {
	text, unit := strings.ToLower(strings.TrimSpace(s)), 1.0
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil // exact, also above 2^53
	}
	for _, u := range byteUnits {
		if number, ok := strings.CutSuffix(text, u.name); ok {
			text, unit = strings.TrimSpace(number), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if n *= unit; err != nil || math.IsNaN(n) || math.Abs(n) >= math.MaxInt64 || strings.ContainsAny(text, "xpien") {
		return 0, fmt.Errorf("%q is not a size like 512, 10MB or 1.5GiB", s)
	}
	return int64(math.Round(n)), nil
}

// FormatBytes writes a size with three digits and its unit, in thousands.
func FormatBytes(n int64) string {
	const units = "kMGTPE"
	size, i := float64(n), -1
	for math.Abs(size) >= 999.5 && i+1 < len(units) {
		size /= 1000
		i++
	}
	switch {
	case i < 0:
		return strconv.FormatInt(n, 10) + " B"
	case math.Abs(size) < 99.95:
		return strings.TrimSuffix(strconv.FormatFloat(size, 'f', 1, 64), ".0") + " " + units[i:i+1] + "B"
	}
	return strconv.FormatFloat(size, 'f', 0, 64) + " " + units[i:i+1] + "B"
}

// ParseDuration reads a time span like time.ParseDuration, with d for days and w for
// weeks in front: 90s, 12h30m, 7d, 1w2d12h.
func ParseDuration(s string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is not a time span like 90s, 12h or 7d", s)
	rest, total := strings.TrimSpace(s), time.Duration(0)
	if rest == "" {
		return 0, wrong
	}
	for _, unit := range []struct {
		name string
		span time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		number, after, ok := strings.Cut(rest, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || n < 0 || math.IsNaN(n) || n*float64(unit.span) >= math.MaxInt64/4 {
			return 0, wrong
		}
		total += time.Duration(n * float64(unit.span))
		rest = after
	}
	if rest == "" {
		return total, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 && total > 0 || total+d < total && d > 0 {
		return 0, wrong
	}
	return total + d, nil
}

// FormatDuration writes a time span with its largest unit, or two.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + FormatDuration(-d)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(time.Second / 10).String()
	case d < time.Hour:
		if seconds := d.Round(time.Second) % time.Minute / time.Second; seconds > 0 {
			return fmt.Sprintf("%dm%ds", d.Round(time.Second)/time.Minute, seconds)
		}
		return fmt.Sprintf("%dm", d.Round(time.Second)/time.Minute)
	case d < 2*day:
		if minutes := d.Round(time.Minute) % time.Hour / time.Minute; minutes > 0 {
			return fmt.Sprintf("%dh%dm", d.Round(time.Minute)/time.Hour, minutes)
		}
		return fmt.Sprintf("%dh", d.Round(time.Minute)/time.Hour)
	case d%day < time.Hour:
		return fmt.Sprintf("%dd", d/day)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// BytesVar adds a flag for a size, which may have a unit.
func BytesVar[T int | int64](fs *pflag.FlagSet, p *T, name string, value T, usage string) {
	*p = value
	fs.Var(bytesValue[T]{p}, name, usage)
}

type bytesValue[T int | int64] struct{ bytes *T }

// String writes the size exactly, with the largest unit of 1024s or 1000s that it is a
// multiple of.
func (b bytesValue[T]) String() string {
	if b.bytes == nil {
		return "0"
	}
	n := int64(*b.bytes)
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"GB", 1e9}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}} {
		if n != 0 && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// Type implements pflag.Value.
func (bytesValue[T]) Type() string { return "size" }

func (b bytesValue[T]) Set(s string) error {
	n, err := ParseBytes(s)
	if err != nil {
		return err
	}
	if int64(T(n)) != n {
		return fmt.Errorf("%q is more than this machine can address", s)
	}
	*b.bytes = T(n)
	return nil
}

// DurationVar adds a flag for a time span, in which days and weeks may be named too.
func DurationVar(fs *pflag.FlagSet, p *time.Duration, name string, value time.Duration, usage string) {
	*p = value
	fs.Var((*durationValue)(p), name, usage)
}

type durationValue time.Duration

// String writes the time span exactly, in days if it is a multiple of them.
func (d *durationValue) String() string {
	const day = 24 * time.Hour
	span := time.Duration(*d)
	if span == 0 {
		return "0"
	}
	if span%day == 0 {
		return strconv.FormatInt(int64(span/day), 10) + "d"
	}
	text := span.String()
	if span%time.Minute == 0 {
		text = strings.TrimSuffix(text, "0s")
	}
	if span%time.Hour == 0 {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Type implements pflag.Value.
func (d *durationValue) Type() string { return "duration" }

func (d *durationValue) Set(s string) error {
	span, err := ParseDuration(s)
	if err != nil {
		return err
	}
	*d = durationValue(span)
	return nil
}
