package mqtt

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// password is a stored password, in one of the forms that a users file may have.
type password struct {
	text  string // as in the file
	cost  int    // about how many microseconds a comparison takes
	check func(shown []byte) bool
}

// errHash: the text behind a user's name is no hash of a known form.
var errHash = errors.New("has a password hash of an unknown kind (make one with mosquitto_passwd -H sha512-pbkdf2, or htpasswd -B)")

// maxIterations limits the cost of one comparison: to some seconds on a small machine.
const maxIterations = 1_000_000

// parsePassword reads a hash as htpasswd -B or mosquitto_passwd writes it:
//
//	$2y$COST$…             bcrypt (also $2a$, $2b$)
//	$7$ITERATIONS$SALT$SUM PBKDF2 with HMAC-SHA-512, salt and sum in base64
//	$6$SALT$SUM            SHA-512 of the password and the salt
func parsePassword(text string) (password, error) {
	p := password{text: text}
	if cost, err := bcrypt.Cost([]byte(text)); err == nil {
		p.cost = 50 << cost
		p.check = func(shown []byte) bool { return bcrypt.CompareHashAndPassword([]byte(text), shown) == nil }
		return p, nil
	}
	fields := strings.Split(text, "$")
	switch {
	case len(fields) == 5 && fields[0] == "" && fields[1] == "7":
		n, err := strconv.Atoi(fields[2])
		if err != nil || n < 1 || n > maxIterations {
			return p, fmt.Errorf("has a hash of %q iterations, which are not between 1 and %d", fields[2], maxIterations)
		}
		salt, sum, err := saltAndSum(fields[3], fields[4])
		p.cost = 1 + n
		p.check = func(shown []byte) bool {
			key, err := pbkdf2.Key(sha512.New, string(shown), salt, n, sha512.Size)
			return err == nil && subtle.ConstantTimeCompare(key, sum) == 1
		}
		return p, err
	case len(fields) == 4 && fields[0] == "" && fields[1] == "6":
		salt, sum, err := saltAndSum(fields[2], fields[3])
		p.cost = 1
		p.check = func(shown []byte) bool {
			h := sha512.New()
			h.Write(shown)
			h.Write(salt)
			return subtle.ConstantTimeCompare(h.Sum(nil), sum) == 1
		}
		return p, err
	}
	return p, errHash
}

// saltAndSum decodes the last two fields of mosquitto's hashes.
func saltAndSum(saltText, sumText string) (salt, sum []byte, err error) {
	if salt, err = base64.StdEncoding.DecodeString(saltText); err != nil || len(salt) == 0 {
		return nil, nil, errors.New("has a hash whose salt is not base64")
	}
	if sum, err = base64.StdEncoding.DecodeString(sumText); err != nil || len(sum) != sha512.Size {
		return nil, nil, fmt.Errorf("has a hash that is not the base64 of %d bytes", sha512.Size)
	}
	return salt, sum, nil
}
