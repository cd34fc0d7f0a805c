package commitlog

import (
	"context"
	"errors"
	"slices"

	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// verify proves that all objects that the recovered log refers to exist, before this
// node becomes the owner: until then it has written only its claim and SEALs, and
// deleted nothing. x was started before the recovery.
func (l *Log) verify(ctx context.Context, r journal.Recovered, x *check.Listing) error {
	if err := l.recognize(ctx); err != nil {
		return err
	}
	if l.recovered = r; l.lost != nil {
		x.Wait()
		return x.Err // a missing object is found when it is read
	}
	return x.Verify(ctx, l.state, r)
}

// recognize compares the objects beside the log with what the log says of them. What
// the log does not say yet goes into the first slot of this owner.
func (l *Log) recognize(ctx context.Context) error {
	keys := append([]string{identity.Key}, l.beside...)
	known := l.state.Identity
	if known != nil {
		for _, s := range known.Sums {
			if !slices.Contains(keys, s.Key) {
				keys = append(keys, s.Key)
			}
		}
	}
	there, err := identity.Sums(ctx, l.bucket, keys)
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
	says := &state.Identity{Anew: len(problems) > 0, Level: l.cluster.Format, Cluster: l.cluster.ID, Sums: there}
	if l.Level() >= 2 && (known == nil || says.Anew || says.Level != known.Level || !slices.Equal(says.Sums, known.Sums)) {
		l.unsaid = says
	}
	return nil
}
