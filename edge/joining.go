package edge

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/sender"
)

// Pauses between attempts to join: short while no cloud answers, long after a token
// was refused. In between the disk is checked for a restored identity or a new token.
const (
	firstJoinPause = 500 * time.Millisecond
	lastJoinPause  = 30 * time.Second
	firstTokenTry  = 5 * time.Second
	lastTokenTry   = 5 * time.Minute
	lookAgain      = 2 * time.Second
	joinTimeout    = 15 * time.Second // of one address
)

// Why a gateway has no identity, or why the cloud does not issue one.
var (
	errNoToken     = errors.New("no join token was given")
	errUnreachable = errors.New("no node of the cloud answered")
	errDisk        = errors.New("the identity cannot be stored")
)

// identityFile holds the gateway's identity.
func identityFile(data string) string { return filepath.Join(data, "identity.pem") }

// KnownGateway returns the id under which the gateway of a data directory has
// joined, "" when it has not.
func KnownGateway(data string) string {
	id, err := join.LoadIdentity(identityFile(data))
	if err != nil {
		return "" // reported when the identity is needed
	}
	return id.Gateway()
}

// checkGateway refuses a --gateway-id that is not the one that joined.
func (o *Options) checkGateway() error {
	if known := KnownGateway(o.Data); known != "" && known != o.Gateway {
		return fmt.Errorf("%s is the identity of gateway %s: use --gateway-id %s, or delete the file and join again", identityFile(o.Data), known, known)
	}
	return nil
}

// joiner obtains the gateway's identity. It is used by one goroutine.
type joiner struct {
	e     *Edge
	path  string        // of the identity
	tried string        // the token of the last attempt
	due   time.Time     // when the token may be tried again
	pause time.Duration // before the next attempt
	said  string        // the last line, so that it is logged once
}

func newJoiner(e *Edge) *joiner { return &joiner{e: e, path: identityFile(e.o.Data)} }

// first returns the identity on the disk, or joins to get one. It waits until it has
// one or ctx ends (nil). Messages are accepted meanwhile.
func (j *joiner) first(ctx context.Context) *join.Identity {
	for {
		id, err := join.LoadIdentity(j.path)
		if err == nil && id.Gateway() != j.e.o.Gateway {
			err = fmt.Errorf("%s is the identity of gateway %s", j.path, id.Gateway())
		}
		if err == nil {
			return id
		}
		if id = j.replace(ctx, err); id != nil {
			return id
		}
		if pause.For(ctx, lookAgain) != nil {
			return nil
		}
	}
}

// replace joins because the disk has no usable identity: loading it has failed with
// the error lost.
func (j *joiner) replace(ctx context.Context, lost error) *join.Identity {
	missing, damaged := errors.Is(lost, fs.ErrNotExist), errors.Is(lost, join.ErrCorrupt)
	if !missing && !damaged {
		j.say(syncStatus{State: SyncUnjoined, Reason: "identity-unreadable", Err: lost, Do: "make it a file that this gateway can read and that is its own"})
		return nil
	}
	key := func() (*ecdsa.PrivateKey, error) { return j.key(damaged) }
	id, err := j.try(ctx, key)
	if err == nil && id != nil {
		return id
	}
	s := joinProblem(err, j.e.o.Gateway)
	switch {
	case damaged:
		s.Err = fmt.Errorf("%w; %w", lost, err)
		s.Do = "put " + j.path + " back, or join again: weirctl gateways reset " + j.e.o.Gateway + ", then a new token with --join-file"
		if errors.Is(err, errNoToken) {
			s.Reason = "identity-damaged"
		}
	case missing && errors.Is(err, errNoToken) && j.e.ranBefore():
		s.Do += "; if it had joined before: weirctl gateways reset " + j.e.o.Gateway + " first, or put " + j.path + " back"
	}
	j.say(s)
	return nil
}

// again joins with the key of an identity that the cloud refuses, if there is a
// token. It is sender.Options.Rejoin.
func (j *joiner) again(ctx context.Context, old *join.Identity) *join.Identity {
	id, err := j.try(ctx, func() (*ecdsa.PrivateKey, error) { return old.Key(), nil })
	quiet := errors.Is(err, errNoToken) || errors.Is(err, errNotDue) || ctx.Err() != nil
	if err != nil && !quiet && err.Error() != j.said {
		j.said = err.Error()
		j.e.o.Log.Warn("joining again with the token failed", "err", err)
	}
	return id
}

// try joins with the token, if there is one and it is due. Without an identity it
// returns the reason; while the token is not due, that of the last attempt.
func (j *joiner) try(ctx context.Context, key func() (*ecdsa.PrivateKey, error)) (*join.Identity, error) {
	text, err := j.e.o.token()
	if err != nil {
		return nil, err
	}
	if text == j.tried && time.Now().Before(j.due) {
		return nil, errNotDue
	}
	if text != j.tried {
		j.pause = 0
	}
	j.tried = text
	id, err := j.join(ctx, text, key)
	if err == nil {
		return id, nil
	}
	if errors.Is(err, errUnreachable) || errors.Is(err, errDisk) {
		j.wait(firstJoinPause, lastJoinPause)
	} else {
		j.wait(firstTokenTry, lastTokenTry)
	}
	return nil, err
}

// wait sets when the token may be used next: after twice the previous pause, with
// jitter.
func (j *joiner) wait(least, most time.Duration) {
	j.pause = min(max(2*j.pause, least), most)
	j.due = time.Now().Add(j.pause/2 + rand.N(j.pause/2))
}

// errNotDue: the token was refused recently, and there is nothing new to report.
var errNotDue = errors.New("the token is tried again later")

// join asks the nodes in turn and stores the identity that it gets.
func (j *joiner) join(ctx context.Context, text string, key func() (*ecdsa.PrivateKey, error)) (*join.Identity, error) {
	token, err := join.ParseToken(text)
	if err != nil {
		return nil, err
	}
	private, err := key()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDisk, err)
	}
	id, err := j.ask(ctx, token, private)
	if err != nil {
		return nil, err
	}
	if err := j.keep(ctx, id); err != nil {
		return nil, err
	}
	j.said = ""
	j.wait(firstTokenTry, lastTokenTry) // a cloud that lets the gateway join and then refuses it must not be asked all the time
	j.e.o.Log.Info("joined the cloud", "gateway", j.e.o.Gateway, "expires", id.Leaf().NotAfter.Format(time.DateOnly))
	return id, nil
}

// ask asks each node once. If none accepts, it returns a refusal by the token's cloud;
// else the error of an unreachable node; else that of another cloud's node.
func (j *joiner) ask(ctx context.Context, token join.Token, key *ecdsa.PrivateKey) (*join.Identity, error) {
	var verdict, foreign, down error
	for _, addr := range j.e.o.Cloud {
		one, cancel := context.WithTimeout(ctx, joinTimeout)
		id, err := sender.Join(one, addr, token, j.e.o.Gateway, key, time.Now)
		cancel()
		switch {
		case err == nil:
			return id, nil
		case errors.Is(err, join.ErrForeign):
			foreign = fmt.Errorf("join at %s: %w", addr, err)
		case join.Verdict(err) != join.Verdict(join.ErrUnavailable):
			verdict = fmt.Errorf("join at %s: %w", addr, err)
		default:
			down = fmt.Errorf("join at %s: %w: %w", addr, errUnreachable, err)
		}
	}
	for _, err := range []error{verdict, down, foreign} {
		if err != nil {
			return nil, err
		}
	}
	return nil, errUnreachable
}

// key returns the key to join with. It is written to the disk before it is shown to
// the cloud. The key of a damaged identity is used if it can be read: with it the
// gateway can join again without a reset.
func (j *joiner) key(damaged bool) (*ecdsa.PrivateKey, error) {
	if damaged {
		if key, err := join.OpenKey(j.path); err == nil {
			return key, nil
		}
	}
	path := j.path + ".key"
	key, err := join.OpenKey(path)
	if errors.Is(err, join.ErrCorrupt) {
		j.e.o.Log.Error("the key to join with is damaged: a new one is made", "file", path, "err", err)
		if err := os.Rename(path, path+".damaged"); err != nil {
			return nil, err
		}
		return join.OpenKey(path)
	}
	return key, err
}

// keep stores a new identity, and retries until that succeeds, because the identity
// has cost a use of the token. A damaged identity is kept beside it.
func (j *joiner) keep(ctx context.Context, id *join.Identity) error {
	if _, err := join.LoadIdentity(j.path); errors.Is(err, join.ErrCorrupt) {
		if err := os.Rename(j.path, j.path+".damaged"); err != nil {
			j.e.o.Log.Warn("damaged identity overwritten: it could not be renamed", "err", err)
		}
	}
	for {
		err := id.Save(j.path)
		if err == nil {
			break
		}
		j.say(syncStatus{State: SyncJoining, Reason: "disk", Err: fmt.Errorf("%w: %w", errDisk, err), Do: "free some space below " + j.e.o.Data + ", or make it writable"})
		if pause.For(ctx, lookAgain) != nil {
			return ctx.Err()
		}
	}
	if err := os.Remove(j.path + ".key"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.e.o.Log.Warn("the file of the key is not removed: the key is in the identity now, so the file can be deleted", "err", err)
	}
	return nil
}

// say sets the state, and logs it when it changes.
func (j *joiner) say(s syncStatus) {
	if errors.Is(s.Err, errNotDue) {
		return // unchanged
	}
	j.e.joining.Store(&s)
	if text := s.Reason + s.Err.Error(); text != j.said {
		j.said = text
		j.e.o.Log.Warn("this gateway does not send to the cloud yet: messages stay in the local log", "reason", s.Reason, "err", s.Err, "to_do", s.Do)
	}
}

// joinProblem describes a failed join to people and probes.
func joinProblem(err error, gateway string) syncStatus {
	s := syncStatus{State: SyncUnjoined, Reason: "token", Err: err, Do: "give it a new token with --join-file (weirctl join-token makes one)"}
	switch {
	case errors.Is(err, errNoToken):
		s.Reason, s.Do = "no-token", "give it a join token with --join-file (weirctl join-token makes one)"
	case errors.Is(err, errUnreachable):
		s.State, s.Reason, s.Do = SyncJoining, "unreachable", "if it lasts, check --cloud, and whether UDP packets reach that address"
	case errors.Is(err, errDisk):
		s.State, s.Reason, s.Do = SyncJoining, "disk", "free some space, or make the data directory writable"
	case errors.Is(err, join.ErrForeign):
		s.State, s.Reason, s.Do = SyncRefused, "foreign", "check --cloud: the token is for another cloud than the one that answers there"
	case errors.Is(err, join.ErrGatewayTaken):
		s.State, s.Reason, s.Do = SyncRefused, "taken", "choose another name with --gateway-id (if this machine replaces that gateway, run weirctl gateways reset "+gateway+" first)"
	case errors.Is(err, join.ErrRevoked):
		s.State, s.Reason, s.Do = SyncRefused, "revoked", "weirctl gateways reset "+gateway
	}
	return s
}

// ranBefore reports whether the local log existed before this start.
func (e *Edge) ranBefore() bool { return len(e.log.Buffers()) > 1 || e.log.Current().Counter() > 1 }

// token returns the join token as text: that of the file, if there is one. It returns
// errNoToken if there is neither.
func (o *Options) token() (string, error) {
	why := errNoToken
	if o.JoinFile != "" {
		b, err := os.ReadFile(o.JoinFile)
		if text := strings.TrimSpace(string(b)); text != "" {
			return text, nil
		}
		if err == nil {
			err = errors.New("it is empty")
		}
		why = fmt.Errorf("%w: read --join-file %s: %w", errNoToken, o.JoinFile, err)
	}
	if o.Join == "" {
		return "", why
	}
	return o.Join, nil
}
