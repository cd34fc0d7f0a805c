package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// File is the name of the file in a data directory that holds the process's own
// credential.
const File = "admin-token"

// tokenPrefix marks a token and its version; maxToken bounds the bytes that are read
// from a token file.
const (
	tokenPrefix = "weiradm1."
	maxToken    = 256
)

// Hash is what is kept of a token. A token is random, so a plain hash without salt or
// iterations is enough.
type Hash [sha256.Size]byte

// NewToken draws a token: 130 bits, in letters and digits.
func NewToken() string { return tokenPrefix + rand.Text() }

// HashOf returns the hash by which a token is known.
func HashOf(token string) Hash { return sha256.Sum256([]byte(token)) }

// ErrToken: the text is not a token.
var ErrToken = errors.New("not an admin token: copy all of it, from " + tokenPrefix + " on")

// ParseToken parses a token as people copy it, with spaces around it. The error is
// ErrToken.
func ParseToken(text string) (string, error) {
	token := strings.TrimSpace(text)
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || len(rest) < 26 || len(token) > maxToken || strings.ContainsFunc(rest, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '2' || r > '7') // base32, as rand.Text has it
	}) {
		return "", ErrToken
	}
	return token, nil
}

// ReadToken reads the token in a file.
func ReadToken(path string) (string, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token, err := ParseToken(string(body[:min(len(body), maxToken)]))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return token, nil
}

// OwnToken returns the token of the process that a data directory belongs to. If there
// is none, or it cannot be used, it writes a new one; made reports that. If the new
// token could not be written, the error says so; the token is still valid, but no
// client can read it.
func OwnToken(dir string) (token string, made bool, err error) {
	path := filepath.Join(dir, File)
	token, err = ReadToken(path)
	switch {
	case err == nil:
		return token, false, nil
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrToken):
		return NewToken(), true, fmt.Errorf("read the admin token: %w", err)
	}
	token, err = RenewToken(dir)
	return token, true, err
}

// RenewToken replaces the token by a new one. Its owner and its group can read the
// file. It is durable on return.
func RenewToken(dir string) (token string, err error) {
	token = NewToken()
	path := filepath.Join(dir, File)
	if err := writeToken(path, token); err != nil {
		return token, fmt.Errorf("write the admin token: %w", err)
	}
	return token, nil
}

// writeToken leaves the old file or the new one after a crash, never a part of one.
func writeToken(path, token string) error {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(token + "\n")
	err = errors.Join(err, f.Chmod(0o640), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
