package mqtt

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// Made with mosquitto_passwd 2.0.11 (-H sha512-pbkdf2 and -H sha512).
const (
	mosquitto7 = "$7$101$OtYKZQgtlROOs5s1$ox61xI2K94oWtu4xABDFgDD6NDe8MQ04MQQX6CYpewIKWWgjOj7ApkoHBhLQnA2dMHCFr6Kj6w/VT0o9Gv957g=="
	mosquitto6 = "$6$0pJlblQWDJXFojOW$Jacm0EqSwoZhZEWdvBeMVDho7URm0/iXZyOcNtis7eUaZ5Q72VyLKFL6+z05NYjs9DAAaXNNMPAppAEgG3CijQ=="
)

// TestMosquittoPasswords: a hash of mosquitto_passwd accepts its password and no other.
func TestMosquittoPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, err := LoadUsers(usersFile(t, "ann:"+mosquitto7, "bob:"+mosquitto6))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ann", "bob"} {
			for shown, want := range map[string]error{"wrong": ErrBadCredentials, "pässword 1": nil, "": ErrBadCredentials} {
				err := u.Authenticate(t.Context(), Connect{Peer: peer(1), Username: name, HasUsername: true, Password: []byte(shown)})
				if err != want {
					t.Errorf("%s with %q: %v, want %v", name, shown, err, want)
				}
			}
		}
	})
}

// TestMosquittoPasswd: what the program on this machine writes is understood.
func TestMosquittoPasswd(t *testing.T) {
	program := needs(t, "mosquitto_passwd")
	for _, kind := range []string{"sha512", "sha512-pbkdf2"} {
		file := filepath.Join(t.TempDir(), "users")
		if out, err := exec.Command(program, "-H", kind, "-c", "-b", file, "ann", "s3cret").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		u, err := LoadUsers(file)
		if err != nil {
			t.Fatal(err)
		}
		c := Connect{Peer: peer(1), Username: "ann", HasUsername: true, Password: []byte("s3cret")}
		if err := u.Authenticate(t.Context(), c); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if c.Password = []byte("s3cret "); u.Authenticate(t.Context(), c) == nil {
			t.Errorf("%s: a wrong password is right", kind)
		}
	}
}

// TestPasswordErrors: the error for text that is not a hash says why.
func TestPasswordErrors(t *testing.T) {
	for text, want := range map[string]string{
		"secret":                           "password hash of an unknown kind",
		"$argon2id$v=19$m=19456$c2FsdA$aa": "password hash of an unknown kind",
		"$7$0$c2FsdA==$c3Vt":               "iterations",
		"$7$9999999999$c2FsdA==$c3Vt":      "iterations",
		"$7$101$c2FsdA==$c3Vt":             "64 bytes",
		"$6$c2F*dA==$c3Vt":                 "salt is not base64",
		"$6$$c3Vt":                         "salt is not base64",
		"$6$c2FsdA==":                      "password hash of an unknown kind",
		"$2y$05$short":                     "password hash of an unknown kind",
	} {
		if _, err := parsePassword(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestReloadUsers: a reload says what changed, forgets passwords that were known
// good, and changes nothing when the file is wrong.
func TestReloadUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := usersFile(t, "ann:"+mosquitto7, "bob:"+mosquitto6, "cid:"+mosquitto6)
		u, err := LoadUsers(file)
		if err != nil {
			t.Fatal(err)
		}
		may := func(name string) bool {
			return u.Authenticate(t.Context(), Connect{Peer: peer(1), Username: name, HasUsername: true, Password: []byte("pässword 1")}) == nil
		}
		if !may("ann") || !may("bob") || may("dan") {
			t.Fatal("the file does not count")
		}
		write := func(lines ...string) {
			if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("ann:" + mosquitto7 + "\nnonsense")
		if _, err := u.Reload(); err == nil || !strings.Contains(err.Error(), "line 2") || !may("bob") {
			t.Errorf("a wrong file: %v", err)
		}
		other := strings.Replace(mosquitto6, "$6$", "$7$101$", 1)
		write("ann:"+other, "cid:"+mosquitto6, "dan:"+mosquitto7)
		c, err := u.Reload()
		if err != nil || strings.Join(c.Added, ",") != "dan" || strings.Join(c.Changed, ",") != "ann" || strings.Join(c.Removed, ",") != "bob" {
			t.Errorf("%+v, %v", c, err)
		}
		if may("ann") || may("bob") || !may("cid") || !may("dan") {
			t.Error("the new file does not count")
		}
	})
}
