package mqtt

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/weirmq/weir/cloud/budget"
)

// Users authenticates clients against a file of `name:hash` lines, as
// `htpasswd -B` and `mosquitto_passwd` write it (parsePassword has the forms).
// Empty lines and lines that begin with # are skipped. The file is read by
// LoadUsers, and again by Reload.
//
// A bcrypt comparison takes a Raspberry Pi Zero about a second, and after a
// power cut a whole fleet comes back at once. So the last good password of
// each user is remembered as an HMAC under a key that lives only in memory.
// A client with that password is accepted at once; the others are checked one at
// a time (line).
type Users struct {
	path string
	line *line
	key  [32]byte

	mu        sync.Mutex // guards what follows
	passwords map[string]password
	dummy     password // compared with when the user is unknown: as slow as the slowest
	good      map[string][sha256.Size]byte
}

// LoadUsers reads the file. A line that is not `name:hash`, or a name that
// occurs twice, is an error that names the line.
func LoadUsers(path string) (*Users, error) {
	u := &Users{path: path, line: newLine(), good: make(map[string][sha256.Size]byte)}
	rand.Read(u.key[:])
	var err error
	u.passwords, u.dummy, err = readUsers(path)
	return u, err
}

// readUsers reads a users file.
func readUsers(path string) (all map[string]password, slowest password, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, slowest, fmt.Errorf("read --mqtt-users: %w", err)
	}
	defer f.Close()
	all = make(map[string]password)
	slowest.check = func([]byte) bool { return false }
	scanner := bufio.NewScanner(f)
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, slowest, fmt.Errorf("users file %s line %d is not of the form name:hash", path, n)
		}
		p, err := parsePassword(hash)
		if err != nil {
			return nil, slowest, fmt.Errorf("users file %s line %d: user %q %w", path, n, name, err)
		}
		if _, found := all[name]; found {
			return nil, slowest, fmt.Errorf("users file %s line %d: user %q is there twice", path, n, name)
		}
		if all[name] = p; p.cost > slowest.cost {
			slowest = p
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, slowest, fmt.Errorf("read users file %s: %w", path, err)
	}
	return all, slowest, nil
}

// UsersChange names the users that a Reload has added, removed, or given another password.
type UsersChange struct{ Added, Changed, Removed []string }

// Reload reads the file again. After an error the users stay as they were. Users who are logged in
// stay logged in: Server.Expel ends their connections.
func (u *Users) Reload() (c UsersChange, err error) {
	passwords, dummy, err := readUsers(u.path)
	if err != nil {
		return c, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, old := range u.passwords {
		switch p, found := passwords[name]; {
		case !found:
			c.Removed = append(c.Removed, name)
		case p.text != old.text:
			c.Changed = append(c.Changed, name)
		default:
			continue
		}
		delete(u.good, name)
	}
	for name := range passwords {
		if _, found := u.passwords[name]; !found {
			c.Added = append(c.Added, name)
		}
	}
	u.passwords, u.dummy = passwords, dummy
	for _, names := range [][]string{c.Added, c.Changed, c.Removed} {
		slices.Sort(names)
	}
	return c, nil
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
	stored, found := u.passwords[c.Username]
	if !found {
		stored = u.dummy
	}
	u.mu.Unlock()
	if seen && hmac.Equal(good[:], sum[:]) {
		return nil
	}
	right, err := u.line.check(ctx, budget.Address(c.Peer), func() bool {
		return stored.check(c.Password) && found && c.HasUsername
	})
	switch {
	case err != nil:
		return fmt.Errorf("check password: %w", err)
	case !right:
		return ErrBadCredentials
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.passwords[c.Username].text != stored.text {
		return ErrBadCredentials // a Reload has changed it meanwhile
	}
	u.good[c.Username] = sum
	return nil
}
