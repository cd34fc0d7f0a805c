package budget

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestPenaltiesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPenalties(PenaltiesOptions{})
		if p.Pause(host(1)) != 0 {
			t.Error("who did nothing waits")
		}
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			if v := p.Wrong(host(1)); v.Pause != want*time.Second || p.Pause(host(1)) != v.Pause {
				t.Errorf("wrong secret %d: %v, %v to wait", i+1, v.Pause, p.Pause(host(1)))
			}
		}
		if p.Pause(host(2)) != 0 {
			t.Error("another address waits")
		}
		began := time.Now()
		if err := p.Wait(t.Context(), host(1)); err != nil || time.Since(began) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p.Wrong(host(1))
		if err := p.Wait(ctx, host(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(10 * time.Minute)
		if v := p.Wrong(host(1)); v.Pause != time.Second {
			t.Errorf("nothing is forgotten: %v", v.Pause)
		}
	})
}

// However many addresses there are, the worst of them are remembered.
func TestPenaltiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPenalties(PenaltiesOptions{Addresses: 10})
		for range 5 {
			p.Wrong(host(1))
		}
		ip := netip.MustParseAddr("2001:db8::")
		for range 1_000 {
			p.Wrong(ip)
			ip = ip.Next()
		}
		if len(p.guilty) > 10 {
			t.Errorf("%d addresses", len(p.guilty))
		}
		if p.Pause(host(1)) != 16*time.Second {
			t.Errorf("the worst address is forgiven: %v", p.Pause(host(1)))
		}
	})
}

func TestLittleIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPenalties(PenaltiesOptions{Lines: NewLines(LinesOptions{Burst: 3, All: 10})})
		count, unlogged := 0, 0
		wrong := func(n int) {
			if v := p.Wrong(host(n)); v.Log {
				count++
				unlogged += v.Unlogged
			}
		}
		for range 100 {
			wrong(1)
		}
		if count != 3 {
			t.Errorf("%d lines about one address", count)
		}
		for n := range 100 {
			wrong(n + 2)
		}
		if count != 10 {
			t.Errorf("%d lines about many", count)
		}
		time.Sleep(time.Minute)
		if wrong(1); count+unlogged != 201 {
			t.Errorf("%d lines, %d that were not written", count, unlogged)
		}
	})
}
