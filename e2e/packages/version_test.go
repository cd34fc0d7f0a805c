package main

import (
	"os/exec"
	"testing"
)

func TestVersion(t *testing.T) {
	for describe, want := range map[string]string{
		"v1.2.0":                        "1.2.0",
		"1.2":                           "1.2",
		"v1.2.0-dirty":                  "1.2.0+dirty",
		"v1.2.0-5-gabc1234":             "1.2.0+5.gabc1234",
		"v1.2.0-12-gabc1234-dirty":      "1.2.0+12.gabc1234+dirty",
		"v1.3.0-rc1":                    "1.3.0~rc1",
		"v1.3.0-beta.2-3-g0123456":      "1.3.0~beta.2+3.g0123456",
		"a100089":                       "0.0.0+0.ga100089",
		"221-ga100089-dirty":            "0.0.0+221.ga100089+dirty",
		"1234567":                       "0.0.0+0.g1234567", // a commit of digits alone
		"devel":                         "",
		"release-1":                     "",
		"v1.2.0_1":                      "",
		"v1.2.0\nProvides: linux-image": "",
	} {
		got, err := debianVersion(describe)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", describe, got, err, want)
		}
	}
}

// TestVersionsInOrder: dpkg agrees on what is newer.
func TestVersionsInOrder(t *testing.T) {
	dpkg := need(t, "dpkg", "dpkg")
	order := []string{"221-ga100089", "1000-g0000001", "v0.1.0", "v1.2.0", "v1.2.0-5-gabc1234", "v1.2.0-12-g0000001", "v1.2.1-rc1",
		"v1.2.1-rc1-3-gabc1234", "v1.2.1-rc2", "v1.2.1", "v1.10.0"}
	for i := range order[1:] {
		older, newer := order[i], order[i+1]
		a, err := debianVersion(older)
		if err != nil {
			t.Fatal(err)
		}
		b, err := debianVersion(newer)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(dpkg, "--compare-versions", a, "lt", b).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s (%s) is not before %s (%s): %v %s", a, older, b, newer, err, out)
		}
	}
}
