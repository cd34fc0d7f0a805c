package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// act is one thing that happens to the demo.
type act struct {
	after time.Duration // the one before
	scene string        // what is happening from then on
	do    func() error
}

// times are when things happen, from the start on.
type times struct{ cut, heal, kill, start time.Duration }

// plan returns the times of a demo of so many seconds; 0 means no limit. The link is
// cut for ten seconds if there are twenty.
func plan(seconds int) times {
	t := times{10 * time.Second, 20 * time.Second, 30 * time.Second, 33 * time.Second}
	if seconds > 0 && seconds < 40 {
		t = times{3 * time.Second, 13 * time.Second, 15 * time.Second, 17 * time.Second}
	}
	if seconds > 0 && seconds < 20 {
		scale := func(d time.Duration) time.Duration { return d * time.Duration(seconds) / 20 }
		t = times{scale(t.cut), scale(t.heal), scale(t.kill), scale(t.start)}
	}
	return t
}

// tell plays all acts, in order, until ctx ends. Then link and cloud are as they were
// before.
func (d *demo) tell(ctx context.Context, at times) error {
	cut, dead := false, false
	acts := []act{
		{at.cut, fmt.Sprintf("THE LINK IS CUT for %v: the gateway goes on acknowledging", at.heal-at.cut),
			func() error { cut = true; d.cluster.Link.Cut(); return nil }},
		{at.heal - at.cut, "the link is back: the buffer drains",
			func() error { cut = false; d.cluster.Link.Heal(); return nil }},
		{at.kill - at.heal, fmt.Sprintf("THE CLOUD IS KILLED (kill -9), for %v", at.start-at.kill),
			func() error { dead = true; d.cluster.Cloud.Kill(); return nil }},
		{at.start - at.kill, "the cloud is started again: all it needs is in the bucket",
			func() error { dead = false; return d.cluster.StartCloud() }},
		{10 * time.Second, "all is well, until Ctrl-C or the end", func() error { return nil }},
	}
	err := d.perform(ctx, acts)
	if cut {
		d.cluster.Link.Heal()
	}
	if dead {
		err = errors.Join(err, d.cluster.StartCloud())
	}
	return err
}

// perform plays acts until ctx ends. It is an error if the cloud ends by itself.
func (d *demo) perform(ctx context.Context, acts []act) error {
	gone := d.cluster.Cloud.Exited()
	for {
		wait := make(<-chan time.Time)
		if len(acts) > 0 {
			timer := time.NewTimer(acts[0].after)
			defer timer.Stop()
			wait = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-gone:
			return fmt.Errorf("weir-cloud has stopped\n%s", d.cluster.Cloud.Tail(10))
		case <-wait:
		}
		d.say(acts[0].scene)
		if err := acts[0].do(); err != nil {
			return err
		}
		acts = acts[1:]
		// One that was killed here is gone until it is started again.
		if gone = d.cluster.Cloud.Exited(); ended(gone) {
			gone = nil
		}
	}
}

// ended reports whether a process is gone.
func ended(exited <-chan struct{}) bool {
	select {
	case <-exited:
		return true
	default:
		return false
	}
}

// say prints what is happening. If the table is not redrawn, it is a line of its own.
func (d *demo) say(scene string) {
	d.scene.Store(&scene)
	if !d.live {
		fmt.Fprintln(d.out, scene)
	}
}
