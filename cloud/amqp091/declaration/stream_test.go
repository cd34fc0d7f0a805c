package declaration

import (
	"math"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
)

// TestStreamOffset: where a consumer of a stream queue begins, by its argument.
func TestStreamOffset(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for _, c := range []struct {
		value  wire.Value
		want   queue.Offset
		reason string
	}{
		{wire.Value{}, queue.Offset{From: queue.FromNext}, ""},
		{wire.Text("next"), queue.Offset{From: queue.FromNext}, ""},
		{wire.Text("first"), queue.Offset{From: queue.FromFirst}, ""},
		{wire.Text("last"), queue.Offset{From: queue.FromLast}, ""},
		{wire.Int32(7), queue.Offset{From: queue.FromOffset, At: 7}, ""},
		{wire.Int64(math.MaxInt64), queue.Offset{From: queue.FromOffset, At: math.MaxInt64}, ""},
		{wire.Timestamp(1_600_000_000), queue.Offset{From: queue.FromTime, At: 1_600_000_000_000}, ""},
		{wire.Timestamp(math.MaxUint64), queue.Offset{From: queue.FromTime, At: math.MaxInt64 / 1000 * 1000}, ""},
		{wire.Text("90s"), queue.Offset{From: queue.FromTime, At: now.UnixMilli() - 90_000}, ""},
		{wire.Text("1D"), queue.Offset{From: queue.FromTime, At: now.UnixMilli() - 86_400_000}, ""},
		{wire.Text("1d"), queue.Offset{}, "invalid_max_age"},
		{wire.Text("first!"), queue.Offset{}, "invalid_max_age"},
		{wire.Bool(true), queue.Offset{}, "{unacceptable_type,bool}"},
	} {
		if got, reason := StreamOffset(c.value, now); got != c.want || reason != c.reason {
			t.Errorf("%v: %+v, %q, want %+v, %q", c.value, got, reason, c.want, c.reason)
		}
	}
}

// TestAge: how long records stay, with RabbitMQ's units.
func TestAge(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"1Y": 365 * day, "2M": 60 * day, "7D": 7 * day, "12h": 12 * time.Hour, "5m": 5 * time.Minute, "30s": 30 * time.Second} {
		if got, ok := parseAge(text); !ok || got != want {
			t.Errorf("%s is %v, %v", text, got, ok)
		}
	}
	if got, ok := parseAge("9000000000Y"); !ok || got < 200*365*day {
		t.Errorf("a very long age is %v, %v", got, ok)
	}
	for _, text := range []string{"", "7", "D", "0D", "-1D", "7DD", "7 D", "1.5h", "99999999999999999999D"} {
		if got, ok := parseAge(text); ok {
			t.Errorf("%q is %v", text, got)
		}
	}
}
