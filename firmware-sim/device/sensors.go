package device

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// sensor makes the measured part of a device's n-th reading: JSON members without braces.
type sensor func(n int, rng *rand.Rand) string

// newSensor returns the sensor of the i-th device; the kinds take turns.
func newSensor(i int, rng *rand.Rand) sensor {
	switch i % 4 {
	case 0:
		return (&climate{temperature: 18 + 6*rng.Float64(), humidity: 40 + 20*rng.Float64()}).read
	case 1:
		return (&meter{total: 1000 * rng.Float64()}).read
	case 2:
		return (&vibration{rms: 0.5 + rng.Float64()}).read
	default:
		return (&tank{level: 30 + 60*rng.Float64()}).read
	}
}

// climate wanders slowly around where it started.
type climate struct{ temperature, humidity float64 }

func (c *climate) read(n int, rng *rand.Rand) string {
	c.temperature += 0.05*rng.NormFloat64() + 0.01*math.Sin(float64(n)/500)
	c.humidity = min(100, max(0, c.humidity+0.1*rng.NormFloat64()))
	return fmt.Sprintf(`"temperature":%.2f,"humidity":%.1f`, c.temperature, c.humidity)
}

// meter counts up, as energy meters do.
type meter struct{ total float64 }

func (m *meter) read(_ int, rng *rand.Rand) string {
	power := math.Abs(2.2 + rng.NormFloat64())
	m.total += power / 3600
	return fmt.Sprintf(`"power_kw":%.3f,"energy_kwh":%.4f,"voltage":%.1f`, power, m.total, 230+rng.NormFloat64())
}

// vibration is quiet, with bursts.
type vibration struct{ rms float64 }

func (v *vibration) read(_ int, rng *rand.Rand) string {
	rms := v.rms + 0.05*math.Abs(rng.NormFloat64())
	if rng.IntN(200) == 0 {
		rms *= 5
	}
	return fmt.Sprintf(`"rms_mm_s":%.3f,"peak_hz":%d,"axis":%q`, rms, 20+rng.IntN(400), "xyz"[rng.IntN(3):][:1])
}

// tank empties slowly and is filled again.
type tank struct{ level float64 }

func (k *tank) read(_ int, rng *rand.Rand) string {
	if k.level -= 0.02 * rng.Float64(); k.level < 10 {
		k.level = 95
	}
	return fmt.Sprintf(`"level_pct":%.2f,"valve":%t`, k.level, k.level < 15)
}
