package record

import "testing"

// The vectors are those of Kafka's UtilsTest.testMurmur2.
func TestMurmur2(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string":                       -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
	for n := int32(1); n < 50; n++ {
		if p := Partition(nil, n); p < 0 || p >= n {
			t.Errorf("partition %d of %d", p, n)
		}
	}
}
