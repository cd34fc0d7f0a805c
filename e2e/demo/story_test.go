package main

import (
	"testing"
	"time"
	"unicode/utf8"
)

// TestPlan: everything happens in order and before the end, and the cut takes ten seconds
// where there is time for it.
func TestPlan(t *testing.T) {
	for _, seconds := range []int{0, 1, 5, 19, 20, 39, 40, 3600} {
		p := plan(seconds)
		if p.cut <= 0 || p.heal <= p.cut || p.kill <= p.heal || p.start <= p.kill {
			t.Errorf("%d seconds: %+v is not in order", seconds, p)
		}
		if end := time.Duration(seconds) * time.Second; seconds > 0 && p.start >= end {
			t.Errorf("%d seconds: %+v goes on after the end", seconds, p)
		}
		if cut := p.heal - p.cut; (seconds == 0 || seconds >= 20) && cut != 10*time.Second {
			t.Errorf("%d seconds: the link is cut for %v", seconds, cut)
		}
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct{ n, most int64 }{{0, 0}, {0, 5000}, {1, 5000}, {5000, 5000}, {3, 3}} {
		got := bar(c.n, c.most)
		if utf8.RuneCountInString(got) != barWidth {
			t.Errorf("%d of %d is %q, %d wide", c.n, c.most, got, utf8.RuneCountInString(got))
		}
		if full := []rune(got)[0] == '█'; full != (c.n > 0) {
			t.Errorf("%d of %d is %q", c.n, c.most, got)
		}
	}
}
