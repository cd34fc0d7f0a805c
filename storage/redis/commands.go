package redis

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// transaction runs commands as one MULTI … EXEC, sent in one piece, and returns their
// answers. With an error, nothing is true if it is certain that no command was or will
// be applied.
//
// It is certain if EXEC was not sent, and if Redis answers EXECABORT, which it does
// after it refused any of the commands: out of memory (OOM), disk trouble (MISCONF), a
// replica (READONLY), still loading (LOADING), too few replicas (NOREPLICAS), a hanging
// script (BUSY), no permission (NOPERM), a key of another node (MOVED). The error is
// then that reason. After any other answer, or none, the outcome is unknown: a server
// that refuses MULTI, for example, applies the commands one by one.
//
// When Redis is out of memory, it accepts only EXEC in a transaction, so transactions
// cannot read or delete then.
func (b *Bucket) transaction(ctx context.Context, commands ...[]any) (answers []any, nothing bool, err error) {
	exec := &final{text: "EXEC"}
	answers, err = wait(ctx, b, func() ([]any, error) {
		pipe := b.client.Pipeline()
		pipe.Do(ctx, "MULTI")
		for _, command := range commands {
			pipe.Do(ctx, command...)
		}
		pipe.Do(ctx, exec)
		// Each reply carries its own error, and EXEC's is the one that counts.
		replies, _ := pipe.Exec(ctx)
		return executed(replies)
	})
	if err == nil {
		return answers, false, nil
	}
	return nil, exec.stop() || errors.As(err, new(aborted)), err
}

// executed takes the replies to MULTI, to the commands and to EXEC.
func executed(replies []redis.Cmder) ([]any, error) {
	last := len(replies) - 1
	answers, err := replies[last].(*redis.Cmd).Slice()
	if redis.IsExecAbortError(err) {
		for _, reply := range replies[:last] {
			if reply.Err() != nil {
				return nil, aborted{reply.Err()}
			}
		}
		return nil, aborted{err}
	}
	if err != nil {
		return nil, err
	}
	if len(answers) != last-1 {
		return nil, errAnswer
	}
	for _, answer := range answers {
		if err, failed := answer.(error); failed {
			return nil, err
		}
	}
	return answers, nil
}

// aborted is the reason why Redis aborted a transaction.
type aborted struct{ error }

func (a aborted) Unwrap() error { return a.error }

// script runs a Lua script on the index and on objects; keys are their keys and the
// arguments at the same time. nothing is true if an error means that the script was not
// run, or could not change anything: for its own state, Redis stops a script before the
// first change or not at all. A missing permission can stop it later.
func (b *Bucket) script(ctx context.Context, source string, keys ...string) (answer any, nothing bool, err error) {
	text := &final{text: source}
	answer, err = wait(ctx, b, func() (any, error) {
		args := []any{"EVAL", text, len(keys) + 1, b.index()}
		for _, key := range keys {
			args = append(args, b.object(key))
		}
		for _, key := range keys {
			args = append(args, key)
		}
		return b.client.Do(ctx, args...).Result()
	})
	if err == nil {
		return answer, false, nil
	}
	return nil, text.stop() || refused(err), err
}

// final is the part of a request without which the server does nothing. It knows
// whether it was sent, because the client library asks for its text when it writes it.
type final struct {
	text  string
	state atomic.Int32 // 0, then once and for all sent or stopped
}

const (
	sent int32 = iota + 1
	stopped
)

// MarshalBinary implements encoding.BinaryMarshaler.
func (f *final) MarshalBinary() ([]byte, error) {
	if !f.state.CompareAndSwap(0, sent) {
		return nil, errors.New("the request ended before it was sent")
	}
	return []byte(f.text), nil
}

// stop prevents the text from being sent, and reports whether it was never sent.
func (f *final) stop() bool {
	return f.state.CompareAndSwap(0, stopped)
}

// wait returns the result of fn, which talks to the server, or an error if ctx ends
// first. The client library cannot be interrupted while it waits for an answer: fn then
// continues until the answer comes, patience is over, or Close is called.
func wait[T any](ctx context.Context, b *Bucket, fn func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return none, redis.ErrClosed
	}
	done := make(chan result, 1)
	b.calls.Go(func() {
		value, err := fn()
		done <- result{value, err}
	})
	b.mu.Unlock()

	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("no answer: %w", ctx.Err())
	}
}
