package peer

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/weirmq/weir/cloud/budget"
)

// TestTransactions: questions and answers about transactions arrive as they are, within
// bounds; a node of an earlier version does not know them.
func TestTransactions(t *testing.T) {
	ca := newCA(t)
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.VerifyTransaction = func(_ context.Context, question []byte) ([]byte, error) {
			if string(question) == "?" {
				return nil, errors.New("cannot be read")
			}
			return append([]byte("verified "), question...), nil
		}
		o.EndTransaction = func(_ context.Context, question []byte) ([]byte, error) {
			if len(question) > maxBody {
				return bytes.Repeat([]byte("x"), maxVerdict), nil
			}
			return bytes.Repeat([]byte("x"), maxVerdict+1), nil
		}
	})
	b := client(t, identity(t, ca, "b"))
	if got, err := b.VerifyTransaction(t.Context(), "a", p.addr, []byte("this")); err != nil || string(got) != "verified this" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := b.VerifyTransaction(t.Context(), "a", p.addr, []byte("?")); err == nil {
		t.Errorf("what cannot be read is answered with %q", got)
	}
	if got, err := b.VerifyTransaction(t.Context(), "a", p.addr, make([]byte, maxBody+1)); err == nil {
		t.Errorf("a large question is answered with %d bytes", len(got))
	}
	if got, err := b.EndTransaction(t.Context(), "a", p.addr, make([]byte, maxDecision)); err != nil || len(got) != maxVerdict {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := b.EndTransaction(t.Context(), "a", p.addr, make([]byte, maxDecision+1)); err == nil {
		t.Errorf("a too large question is answered with %d bytes", len(got))
	}
	if got, err := b.EndTransaction(t.Context(), "a", p.addr, nil); !errors.Is(err, errAnswer) {
		t.Errorf("a too large answer: %d bytes, %v", len(got), err)
	}
	earlier := start(t, ca, "old", budget.GateOptions{})
	for _, ask := range []func(context.Context, string, string, []byte) ([]byte, error){b.VerifyTransaction, b.EndTransaction} {
		if _, err := ask(t.Context(), "old", earlier.addr, []byte("this")); !errors.Is(err, ErrUnknownVerb) {
			t.Errorf("a node of an earlier version: %v", err)
		}
	}
}

// TestRefusedBeside: a request that is refused does not end another one on the same link.
func TestRefusedBeside(t *testing.T) {
	ca := newCA(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.EndTransaction = func(context.Context, []byte) ([]byte, error) {
			close(asked)
			<-answer
			return []byte("done"), nil
		}
		o.VerifyTransaction = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("cannot be read") }
	})
	b := client(t, identity(t, ca, "b"))
	ended := make(chan error, 1)
	go func() {
		_, err := b.EndTransaction(t.Context(), "a", p.addr, nil)
		ended <- err
	}()
	<-asked
	if _, err := b.VerifyTransaction(t.Context(), "a", p.addr, nil); !errors.Is(err, errRefused) {
		t.Errorf("refused: %v", err)
	}
	close(answer)
	if err := <-ended; err != nil {
		t.Errorf("the other request: %v", err)
	}
}
