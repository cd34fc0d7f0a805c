package commitlog

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// verify proves that all objects that the recovered log refers to exist, before this
// node becomes the owner: until then it has written only its claim and SEALs, and
// deleted nothing. What was there at an earlier call is not looked for again.
func (c *Candidate) verify(ctx context.Context, r journal.Recovered) error {
	l := c.log
	if err := l.recognize(ctx, c.sums); err != nil {
		return err
	}
	if l.recovered = r; l.lost != nil {
		c.segments.Wait()
		return c.segments.Err // a missing object is found when it is read
	}
	return c.segments.Verify(ctx, l.state, r)
}

// lookAhead is verify for a candidate that may be behind the owner: what is missing may
// have been deleted by the owner, since the log does not refer to it any more.
func (c *Candidate) lookAhead(ctx context.Context) error {
	if _, err := c.sums.of(ctx, c.log.objectsBeside()); err != nil {
		return err
	}
	err := c.segments.Verify(ctx, c.log.state, c.journal.Recovered())
	if errors.Is(err, storage.ErrMissing) {
		return nil
	}
	return err
}

// sums are the checksums of objects beside the log. Each is created once, so that it is
// read once.
type sums struct {
	bucket storage.Bucket
	known  []state.Sum
	ready  sync.WaitGroup // start has read
}

// start begins to read objects. If that fails, or one does not exist, they are read again.
func (s *sums) start(ctx context.Context, keys []string) {
	s.ready.Go(func() {
		if known, err := identity.Sums(ctx, s.bucket, keys); err == nil {
			s.known = known
		}
	})
}

// of returns the checksums of those of the objects that exist, in the order of their keys.
func (s *sums) of(ctx context.Context, keys []string) (there []state.Sum, err error) {
	s.ready.Wait()
	keys = slices.DeleteFunc(keys, func(key string) bool {
		i := slices.IndexFunc(s.known, func(sum state.Sum) bool { return sum.Key == key })
		if i >= 0 {
			there = append(there, s.known[i])
		}
		return i >= 0
	})
	found, err := identity.Sums(ctx, s.bucket, keys)
	if err != nil {
		return nil, err
	}
	s.known = append(s.known, found...)
	there = append(there, found...)
	slices.SortFunc(there, func(a, b state.Sum) int { return cmp.Compare(a.Key, b.Key) })
	return there, nil
}

// recognize compares the objects beside the log with what the log says of them. What
// the log does not say yet goes into the first slot of this owner.
func (l *Log) recognize(ctx context.Context, sums *sums) error {
	known := l.state.Identity
	there, err := sums.of(ctx, l.objectsBeside())
	if err != nil {
		return err
	}
	problems := identity.Differs(known, l.cluster, there)
	if len(problems) > 0 && l.lost == nil {
		return errors.Join(problems...)
	}
	for _, problem := range problems {
		l.lost(problem.Error())
	}
	l.unsaid = nil
	says := &state.Identity{Anew: len(problems) > 0, Level: l.cluster.Format, Cluster: l.cluster.ID, Sums: there}
	if l.Level() >= 2 && (known == nil || says.Anew || says.Level != known.Level || !slices.Equal(says.Sums, known.Sums)) {
		l.unsaid = says
	}
	return nil
}

// objectsBeside returns the keys of the objects beside the log.
func (l *Log) objectsBeside() []string {
	keys := append([]string{identity.Key}, l.beside...)
	if known := l.state.Identity; known != nil {
		for _, s := range known.Sums {
			if !slices.Contains(keys, s.Key) {
				keys = append(keys, s.Key)
			}
		}
	}
	return keys
}
