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

func TestPenaltiesLogLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPenalties(PenaltiesOptions{})
		count, unlogged := 0, 0
		for range 600 { // a minute
			if v := p.Wrong(host(1)); v.Log {
				count++
				unlogged += v.Unlogged
			}
			time.Sleep(100 * time.Millisecond)
		}
		v := p.Wrong(host(1))
		if !v.Log || count != 1 || unlogged+v.Unlogged+2 != 601 {
			t.Errorf("%d lines, %d without, then %+v", count, unlogged, v)
		}
		time.Sleep(time.Minute)
		count = 0
		for n := range 200 {
			if p.Wrong(host(n)).Log {
				count++
			}
		}
		if count != lines {
			t.Errorf("%d lines in one second", count)
		}
	})
}
