package mqtt

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/bcrypt"
)

func usersFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func peer(n int) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 1000))
}

func TestUsers(t *testing.T) {
	synctest.Test(t, testUsers) // wrong passwords cost time
}

func testUsers(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	// htpasswd writes $2y$, which is the same.
	apache := strings.Replace(string(hash), "$2a$", "$2y$", 1)
	u, err := LoadUsers(usersFile(t, "# devices", "ann:"+string(hash), "", "bob:"+apache))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, password string
		ok             bool
	}{
		{"ann", "secret", true}, {"ann", "secret", true}, {"ann", "wrong", false}, {"ann", "", false},
		{"bob", "secret", true}, {"bob", "Secret", false}, {"eve", "secret", false}, {"eve", "nobody", false},
	} {
		err := u.Authenticate(t.Context(), Connect{Peer: peer(1), Username: test.name, HasUsername: true, Password: []byte(test.password)})
		if (err == nil) != test.ok || err != nil && !errors.Is(err, ErrBadCredentials) {
			t.Errorf("%s/%s: %v", test.name, test.password, err)
		}
	}
	if err := u.Authenticate(t.Context(), Connect{Peer: peer(2)}); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("no user name: %v", err)
	}
}

func TestUsersErrors(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ lines, want string }{
		{"ann", "line 1 is not of the form name:hash"},
		{"\nann:{SHA}abc", `line 2: user "ann" has a password hash of an unknown kind`},
		{"ann:" + string(hash) + "\nann:" + string(hash), "line 2: user \"ann\" is there twice"},
	} {
		if _, err := LoadUsers(usersFile(t, test.lines)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v", test.lines, err)
		}
	}
	if _, err := LoadUsers(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
