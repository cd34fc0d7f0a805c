package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"strings"
)

// Mechanism is a SASL mechanism whose credentials are kept. The numbers are
// Kafka's.
type Mechanism int8

// Mechanisms [RFC-5802, RFC-7677].
const (
	SCRAMSHA256 Mechanism = 1
	SCRAMSHA512 Mechanism = 2
)

var mechanisms = map[Mechanism]string{SCRAMSHA256: "SCRAM-SHA-256", SCRAMSHA512: "SCRAM-SHA-512"}

// Mechanisms lists them, best first.
func Mechanisms() []Mechanism { return []Mechanism{SCRAMSHA512, SCRAMSHA256} }

// Numbers of iterations. The largest bounds the work of a client, and of checking a
// PLAIN password here.
const (
	MinIterations     = 4096
	MaxIterations     = 1 << 16
	DefaultIterations = 8192

	minSalt  = 8 // bytes, at format level 1; from ShortSaltLevel on any length, as in Kafka
	maxSalt  = 1024
	newSalt  = 16
	maxNonce = 1024 // bytes of the client's
)

// ShortSaltLevel is the format level from which on a salt may be shorter than 8
// bytes. Kafka sets no limit, and its clients choose the salt.
const ShortSaltLevel = 2

// Credential is what a server keeps of a password.
type Credential struct {
	Mechanism  Mechanism `json:"mechanism"`
	Iterations int       `json:"iterations"`
	Salt       []byte    `json:"salt"`
	StoredKey  []byte    `json:"stored_key"`
	ServerKey  []byte    `json:"server_key"`
}

func (m Mechanism) hash() func() hash.Hash {
	if m == SCRAMSHA512 {
		return sha512.New
	}
	return sha256.New
}

func (m Mechanism) mac(key []byte, parts ...string) []byte {
	h := hmac.New(m.hash(), key)
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

func (m Mechanism) sum(p []byte) []byte {
	h := m.hash()()
	h.Write(p)
	return h.Sum(nil)
}

// NewCredential derives a credential from a password, with a new salt.
func NewCredential(m Mechanism, password string) (Credential, error) {
	if password == "" {
		return Credential{}, fmt.Errorf("%w: the password is empty", ErrInvalid)
	}
	if err := known(m, mechanisms); err != nil {
		return Credential{}, err
	}
	salt := make([]byte, newSalt)
	rand.Read(salt) // never fails
	salted, err := m.salted(password, salt, DefaultIterations)
	if err != nil {
		return Credential{}, err
	}
	return CredentialOf(m, salted, salt, DefaultIterations)
}

// CredentialOf makes a credential from a password that a client has salted, as Kafka's
// clients do.
func CredentialOf(m Mechanism, salted, salt []byte, iterations int) (Credential, error) {
	if err := known(m, mechanisms); err != nil {
		return Credential{}, err
	}
	if len(salted) != m.hash()().Size() {
		return Credential{}, fmt.Errorf("%w: salted password of %d bytes", ErrInvalid, len(salted))
	}
	c := Credential{
		Mechanism: m, Iterations: iterations, Salt: salt,
		StoredKey: m.sum(m.mac(salted, "Client Key")),
		ServerKey: m.mac(salted, "Server Key"),
	}
	return c, c.Check()
}

func (m Mechanism) salted(password string, salt []byte, iterations int) ([]byte, error) {
	salted, err := pbkdf2.Key(m.hash(), password, salt, iterations, m.hash()().Size())
	if err != nil {
		return nil, fmt.Errorf("derive a key of the password: %w", err)
	}
	return salted, nil
}

// Check returns ErrInvalid if the credential cannot be used.
func (c Credential) Check() error {
	if err := known(c.Mechanism, mechanisms); err != nil {
		return err
	}
	size := c.Mechanism.hash()().Size()
	switch {
	case c.Iterations < MinIterations || c.Iterations > MaxIterations:
		return fmt.Errorf("%w: %d iterations are not between %d and %d", ErrInvalid, c.Iterations, MinIterations, MaxIterations)
	case len(c.Salt) > maxSalt:
		return fmt.Errorf("%w: salt of %d bytes is longer than %d", ErrInvalid, len(c.Salt), maxSalt)
	case len(c.StoredKey) != size || len(c.ServerKey) != size:
		return fmt.Errorf("%w: keys of %s have %d bytes", ErrInvalid, c.Mechanism, size)
	}
	return nil
}

// offered returns the credential that an exchange with a user starts from. A user that
// does not exist gets one as well, the same each time, so that clients cannot find out
// which users exist.
func (a *Auth) offered(user string, m Mechanism) (c Credential, exists bool) {
	if c, ok := a.credential(user, m); ok {
		return c, true
	}
	salt := m.mac(a.decoy, user)[:newSalt]
	size := m.hash()().Size()
	return Credential{Mechanism: m, Iterations: DefaultIterations, Salt: salt, StoredKey: make([]byte, size), ServerKey: make([]byte, size)}, false
}

// CheckPassword checks the password of a user that can log in by any mechanism. The
// error is ErrCredentials. It takes some milliseconds, whether the user exists or not.
func (a *Auth) CheckPassword(user, password string) error {
	m := SCRAMSHA512
	if _, ok := a.credential(user, m); !ok {
		m = SCRAMSHA256
	}
	c, exists := a.offered(user, m)
	salted, err := m.salted(password, c.Salt, c.Iterations)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(m.sum(m.mac(salted, "Client Key")), c.StoredKey) != 1 || !exists {
		return ErrCredentials
	}
	return nil
}

// Exchange is the server's side of one SCRAM conversation: the client's first
// message goes to First, its second to Final.
type Exchange struct {
	auth   *Auth
	m      Mechanism
	user   string
	header string // gs2, which the client repeats
	nonce  string // the client's followed by ours
	bare   string // client-first-message-bare
	first  string // server-first-message
	c      Credential
	exists bool
}

// NewExchange begins a conversation.
func (a *Auth) NewExchange(m Mechanism) *Exchange { return &Exchange{auth: a, m: m} }

// User returns the name that the client has sent, after First.
func (e *Exchange) User() string { return e.user }

// First takes the client's first message and returns the server's.
func (e *Exchange) First(message []byte) ([]byte, error) {
	// gs2-header: no channel binding, and no authorization identity other than the
	// user.
	parts := strings.SplitN(string(message), ",", 3)
	if len(parts) != 3 || parts[0] != "n" && parts[0] != "y" {
		return nil, fmt.Errorf("%w: channel binding is not supported", errExchange)
	}
	e.header, e.bare = parts[0]+","+parts[1]+",", parts[2]
	fields := strings.Split(e.bare, ",")
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "n=") || !strings.HasPrefix(fields[1], "r=") {
		return nil, errExchange
	}
	var ok bool
	if e.user, ok = unescape(fields[0][2:]); !ok || checkName("user", e.user) != nil {
		return nil, fmt.Errorf("%w: no user name", errExchange)
	}
	if other, ok := unescape(strings.TrimPrefix(parts[1], "a=")); !ok || other != "" && other != e.user {
		return nil, fmt.Errorf("%w: acting for another user is not supported", errExchange)
	}
	nonce := fields[1][2:]
	if nonce == "" || len(nonce) > maxNonce {
		return nil, fmt.Errorf("%w: nonce of %d bytes", errExchange, len(nonce))
	}
	e.nonce = nonce + rand.Text()
	e.c, e.exists = e.auth.offered(e.user, e.m)
	e.first = fmt.Sprintf("r=%s,s=%s,i=%d", e.nonce, base64.StdEncoding.EncodeToString(e.c.Salt), e.c.Iterations)
	return []byte(e.first), nil
}

// unescape decodes a saslname, in which "=" is only part of an escape.
func unescape(name string) (string, bool) {
	plain := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name)
	return plain, strings.Count(name, "=") == strings.Count(name, "=2C")+strings.Count(name, "=3D")
}

// Final takes the client's proof and returns the server's. The error is ErrCredentials
// if the password was wrong.
func (e *Exchange) Final(message []byte) ([]byte, error) {
	without, encoded, ok := strings.Cut(string(message), ",p=")
	fields := strings.Split(without, ",")
	// librdkafka puts its own nonce before the whole one once more, and Kafka accepts
	// that. Ours is part of it, and the proof covers what was sent.
	if !ok || e.first == "" || len(fields) < 2 || fields[0] != "c="+base64.StdEncoding.EncodeToString([]byte(e.header)) ||
		!strings.HasPrefix(fields[1], "r=") || !strings.HasSuffix(fields[1], e.nonce) {
		return nil, errExchange
	}
	proof, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(proof) != len(e.c.StoredKey) {
		return nil, fmt.Errorf("%w: proof", errExchange)
	}
	signed := strings.Join([]string{e.bare, e.first, without}, ",")
	key := make([]byte, len(proof))
	subtle.XORBytes(key, proof, e.m.mac(e.c.StoredKey, signed))
	if subtle.ConstantTimeCompare(e.m.sum(key), e.c.StoredKey) != 1 || !e.exists {
		return nil, ErrCredentials
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(e.m.mac(e.c.ServerKey, signed))), nil
}
