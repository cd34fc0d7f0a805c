package join

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/weirmq/weir/storage/crc"
)

const (
	tokenPrefix = "weir1."
	tokenLen    = 16 + sha256.Size + 4
)

// Token admits a gateway to one cloud. In print it is "weir1." and, in
// unpadded base64url, the secret, the fingerprint and a CRC32C of both.
type Token struct {
	Secret      [16]byte
	Fingerprint [sha256.Size]byte // of the CA's public key, see Fingerprint
}

// NewToken makes a token for the cloud of ca with a fresh secret.
func NewToken(ca *CA) Token {
	t := Token{Fingerprint: Fingerprint(ca.cert)}
	rand.Read(t.Secret[:]) // never fails since Go 1.24
	return t
}

// ParseToken reads a token as Reveal prints it. ErrTokenMalformed otherwise.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, tokenPrefix) {
		return Token{}, ErrTokenMalformed
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s[len(tokenPrefix):])
	if err != nil || len(b) != tokenLen {
		return Token{}, ErrTokenMalformed
	}
	body, sum := b[:tokenLen-4], binary.BigEndian.Uint32(b[tokenLen-4:])
	if crc.Sum(body) != sum {
		return Token{}, fmt.Errorf("checksum: %w", ErrTokenMalformed)
	}
	var t Token
	copy(t.Secret[:], body)
	copy(t.Fingerprint[:], body[16:])
	return t, nil
}

// Reveal prints the token for the person who is to use it.
func (t Token) Reveal() string {
	b := make([]byte, 0, tokenLen)
	b = append(b, t.Secret[:]...)
	b = append(b, t.Fingerprint[:]...)
	b = binary.BigEndian.AppendUint32(b, crc.Sum(b))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// String hides the secret, so that a token in a log line admits nobody.
func (t Token) String() string { return tokenPrefix + "[hidden]" }

// GoString hides the secret from %#v too.
func (t Token) GoString() string { return t.String() }

// HashSecret is what a cloud keeps of a token.
func HashSecret(secret [16]byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte("weir join token 1\x00"), secret[:]...))
}
