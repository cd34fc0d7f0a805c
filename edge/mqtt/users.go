package mqtt

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/weirmq/weir/cloud/budget"
)

// Users authenticates clients against a file of `name:bcrypt-hash` lines, as
// `htpasswd -B` writes it. Empty lines and lines that begin with # are
// skipped. The file is read once.
//
// A bcrypt comparison takes a Raspberry Pi Zero about a second, and after a
// power cut a whole fleet comes back at once. So the last good password of
// each user is remembered as an HMAC under a key that lives only in memory.
// Whoever shows that password is let in at once; the others are checked one at
// a time (line).
type Users struct {
	line   *line
	hashes map[string][]byte
	dummy  []byte // compared with when the user is unknown: both take the same time
	key    [32]byte

	mu   sync.Mutex
	good map[string][sha256.Size]byte // guarded by mu
}

// LoadUsers reads the file. A line that is not `name:hash` with a bcrypt hash,
// or a name that occurs twice, is an error that names the line.
func LoadUsers(path string) (*Users, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open users file: %w", err)
	}
	defer f.Close()
	u := &Users{line: newLine(), hashes: make(map[string][]byte), good: make(map[string][sha256.Size]byte)}
	cost := bcrypt.MinCost
	scanner := bufio.NewScanner(f)
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("users file %s line %d: not name:hash", path, n)
		}
		c, err := bcrypt.Cost([]byte(hash))
		if err != nil {
			return nil, fmt.Errorf("users file %s line %d: user %q has no bcrypt hash (make one with htpasswd -B)", path, n, name)
		}
		if _, found := u.hashes[name]; found {
			return nil, fmt.Errorf("users file %s line %d: user %q is there twice", path, n, name)
		}
		u.hashes[name] = []byte(hash)
		cost = max(cost, c)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read users file %s: %w", path, err)
	}
	if u.dummy, err = bcrypt.GenerateFromPassword([]byte("nobody"), cost); err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	rand.Read(u.key[:])
	return u, nil
}

// Authenticate is an Options.Authenticate. It returns ErrBadCredentials, in
// the same time for an unknown user as for a wrong password, and another error
// when the password could not be checked in time.
func (u *Users) Authenticate(ctx context.Context, c Connect) error {
	mac := hmac.New(sha256.New, u.key[:])
	mac.Write(c.Password)
	var sum [sha256.Size]byte
	mac.Sum(sum[:0])

	u.mu.Lock()
	good, seen := u.good[c.Username]
	u.mu.Unlock()
	if seen && hmac.Equal(good[:], sum[:]) {
		return nil
	}
	hash, found := u.hashes[c.Username]
	if !found {
		hash = u.dummy
	}
	right, err := u.line.check(ctx, budget.Address(c.Peer), func() bool {
		return bcrypt.CompareHashAndPassword(hash, c.Password) == nil && found && c.HasUsername
	})
	switch {
	case err != nil:
		return fmt.Errorf("check password: %w", err)
	case !right:
		return ErrBadCredentials
	}
	u.mu.Lock()
	u.good[c.Username] = sum
	u.mu.Unlock()
	return nil
}
