package cluster

import (
	"context"
	"errors"

	"github.com/weirmq/weir/storage/journal"
)

// follower is the successor of an owner, as package cloud makes one.
type follower struct{ *journal.Candidate }

func (follower) Close() {}

// options are those of the log of a shard, which takes a while to read.
func (l *life) logOptions(shard uint32, self Node, reads bool) (journal.Options, error) {
	info, err := self.Info(AddressesLevel)
	return journal.Options{Bucket: l, Shard: shard, Node: l.h.name, Info: info, Level: 2,
		Verify: func(ctx context.Context, _ journal.Recovered) error {
			if reads {
				wait(ctx, l.h.w.recovery)
			}
			return l.h.able(shard)
		}}, err
}

// able returns why a node cannot lead a shard.
func (h *host) able(shard uint32) error {
	if h.name == h.w.unable || h.w.damaged != nil && h.w.damaged(shard) {
		return errUnable
	}
	return nil
}

// prepare is for ManagerOptions.
func (l *life) prepare(ctx context.Context, shard uint32, self Node) (Candidate, error) {
	o, err := l.logOptions(shard, self, false)
	if err != nil {
		return nil, err
	}
	if err := l.h.able(shard); err != nil {
		return nil, err
	}
	c, err := journal.Prepare(ctx, o, nothing{})
	wait(ctx, l.h.w.recovery)
	return follower{c}, err
}

// open makes this node the owner: of a log that it has read along, of one that it has ended
// for another node which has not taken it, or of one that it has to read.
func (l *life) open(ctx context.Context, shard uint32, self Node, epoch uint64, c Candidate) (*journal.Journal, error) {
	l.mu.Lock()
	ended := l.ended[shard]
	delete(l.ended, shard)
	l.mu.Unlock()
	if c != nil {
		return c.(follower).Take(ctx)
	}
	o, err := l.logOptions(shard, self, ended == nil)
	if err != nil {
		return nil, err
	}
	if ended == nil {
		o.Epoch = epoch
		return journal.Open(ctx, o, nothing{})
	}
	resumed, err := ended.Resume(o, nothing{})
	if err == nil {
		err = resumed.Claim(ctx, epoch, [16]byte{})
	}
	if err != nil {
		return nil, err
	}
	return resumed.Take(ctx)
}

func (l *life) log(shard uint32) *journal.Journal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.logs[shard]
}

func (l *life) setLog(shard uint32, j *journal.Journal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logs[shard] = j
}

// handOver is for ManagerOptions: it is what commitlog.Log.HandOver does.
func (l *life) handOver(ctx context.Context, shard uint32, nonce [16]byte, ready func(context.Context) error) error {
	j := l.log(shard)
	if j == nil {
		return errors.New("it is not led here")
	}
	if err := j.Expect(ctx, nonce); err != nil {
		return err
	}
	if err := ready(ctx); err != nil {
		return errors.Join(err, j.Expect(ctx, [16]byte{}))
	}
	_, err := j.Yield(ctx)
	return err
}

// successor is called when a node has done, or not done, a step of a hand-over, before the
// owner gets the answer. An error is the owner's answer.
type successor func(owner, next *host, step Step, done bool) error

// succeed is for ManagerOptions.
func (l *life) succeed(ctx context.Context, to Node, q Succession) (done bool, err error) {
	body, err := q.Encode()
	if err != nil {
		return false, err
	}
	if l.h.w.earlier {
		return false, ErrUnsupported
	}
	var answer []byte
	err = l.call(ctx, to.Name, func(other *life) (err error) {
		answer, err = other.manager.Succeeds(ctx, body)
		if happens := l.h.w.succeeds; happens != nil && err == nil {
			done, _ := ReadSucceeded(answer)
			err = happens(l.h, other.h, q.Step, done)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	return ReadSucceeded(answer)
}
