package mqtt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func aclFile(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func loadACL(t *testing.T, body string) *ACL {
	t.Helper()
	a, err := LoadACL(aclFile(t, body))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const sampleACL = `# who may do what
topic read news/#
topic deny news/secret

user ann
topic plant/ann/#
topic write orders
topic deny plant/ann/key
topic readwrite two words/+/x
topic read $SYS/#

user bob
user ann
topic write late

pattern write dev/%u/%c/#
pattern deny dev/+/+/firmware
pattern read all
`

// TestACL: what mosquitto 2.0 answers to the same file.
func TestACL(t *testing.T) {
	a := loadACL(t, sampleACL)
	for _, c := range []struct {
		user, client, topic string
		read, write         bool
	}{
		{"", "c", "news/today", true, false},
		{"", "c", "news", true, false},
		{"", "c", "news/secret", false, false},
		{"", "c", "other", false, false},
		{"", "c", "dev//c/t", false, false}, // %u needs a user name
		{"", "c", "all", true, false},
		{"ann", "c", "news/today", false, false},
		{"ann", "c", "plant/ann/a/b", true, true},
		{"ann", "c", "plant/ann/key", false, false},
		{"ann", "c", "orders", false, true},
		{"ann", "c", "late", false, true},
		{"ann", "c", "two words/1/x", true, true},
		{"ann", "c", "$SYS/broker/uptime", true, false},
		{"ann", "c", "dev/ann/c/t", false, true},
		{"ann", "c", "dev/ann/d/t", false, false},
		{"ann", "c", "dev/ann/c/firmware", false, false},
		{"bob", "c", "plant/ann/a", false, false},
		{"bob", "c", "dev/bob/c/t", false, true},
		{"bob", "c", "all", true, false},
		{"eve", "c", "all", true, false},
		{"+", "c", "all", false, false},
		{"eve", "#", "all", false, false},
		{"ann", "a+b", "plant/ann/a", true, true}, // her own lines come first
	} {
		if read, write := a.MayRead(c.client, c.user, c.topic), a.MayPublish(c.client, c.user, c.topic); read != c.read || write != c.write {
			t.Errorf("%s as %q/%q: read %v, write %v", c.topic, c.user, c.client, read, write)
		}
	}
	if only := loadACL(t, "user ann\ntopic a"); only.MayRead("c", "eve", "a") || only.MayRead("c", "", "a") || !only.MayRead("c", "ann", "a") || only.MayRead("c", "ann", "$a") {
		t.Error("a file without patterns")
	}
	if none := loadACL(t, "# nothing\n"); none.MayPublish("c", "ann", "a") {
		t.Error("an empty file allows something")
	}
	if all := loadACL(t, "topic #"); !all.MayPublish("c", "", "a/b") || all.MayPublish("c", "", "$SYS/x") {
		t.Error("# and topics that begin with $")
	}
}

func TestACLErrors(t *testing.T) {
	for body, want := range map[string]string{
		"topic a\nfoo bar":       `line 2: "foo" is neither user, topic nor pattern`,
		"topic":                  "line 1: topic without a topic",
		"topic two words":        `line 1: topic access "two" is not read, write, readwrite or deny`,
		"\n\npattern read a/#/b": `line 3: pattern "a/#/b" is not a valid filter`,
		"topic write a+":         `"a+" is not a valid filter`,
		"user":                   "line 1: user without a name",
		"  topic a":              "line 1: ",
	} {
		if _, err := LoadACL(aclFile(t, body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", body, err, want)
		}
	}
	if _, err := LoadACL(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestACLChange(t *testing.T) {
	old := loadACL(t, "topic a\nuser ann\ntopic a\ntopic b\npattern c/%u")
	now := loadACL(t, "topic a\nuser ann\ntopic b\ntopic deny b\npattern c/%u\npattern c/%u")
	if c := now.ChangeSince(old); c != (ACLChange{Added: 2, Removed: 1}) {
		t.Errorf("%+v", c)
	}
	if c := old.ChangeSince(old); c != (ACLChange{}) {
		t.Errorf("%+v", c)
	}
	if c := old.ChangeSince(loadACL(t, "")); c != (ACLChange{Added: 4}) {
		t.Errorf("%+v", c)
	}
}

// userPacket is a CONNECT with a user name.
func userPacket(version byte, id, user string) packets.Packet {
	pk := connectPacket(version, id, true)
	pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte(user)
	pk.Connect.PasswordFlag, pk.Connect.Password = true, []byte("x")
	return pk
}

// startWith is a server with an ACL that can be swapped.
func startWith(t *testing.T, body string) (*testServer, *atomic.Pointer[ACL]) {
	var acl atomic.Pointer[ACL]
	acl.Store(loadACL(t, body))
	s := start(t, Options{
		May: Permissions{
			Publish:   func(id, user, topic string) bool { return acl.Load().MayPublish(id, user, topic) },
			Subscribe: func(id, user, filter string) bool { return acl.Load().MaySubscribe(id, user, filter) },
			Read:      func(id, user, topic string) bool { return acl.Load().MayRead(id, user, topic) },
		},
	})
	return s, &acl
}

// TestMayPublish: what may not be published is refused and not stored, and a
// change of the ACL counts from the next message on.
func TestMayPublish(t *testing.T) {
	s, acl := startWith(t, "user ann\ntopic write a/#\ntopic read r")
	ann, _ := logIn(t, s, userPacket(5, "ann", "ann"))
	send := func(topic string, want byte) {
		t.Helper()
		ann.send(publishPacket(topic, topic, 1, 7))
		if ack := ann.ackOf(packets.Puback, 7); ack.ReasonCode != want {
			t.Errorf("%s: PUBACK %#x, want %#x", topic, ack.ReasonCode, want)
		}
	}
	send("a/1", 0)
	send("b", 0x87)
	send("r", 0x87)
	acl.Store(loadACL(t, "user ann\ntopic write b"))
	send("b", 0)
	send("a/1", 0x87)
	if got := strings.Join(s.backend.payloads(), " "); got != "a/1 b" {
		t.Errorf("stored %s", got)
	}
}

// TestMayRead: a subscription is granted, and delivers what may be read: live,
// retained and queued messages alike.
func TestMayRead(t *testing.T) {
	const open = "user pub\ntopic #\nuser sub\ntopic read #"
	s, acl := startWith(t, open+"\ntopic deny secret/#")
	pub, _ := logIn(t, s, userPacket(5, "pub", "pub"))
	retained := publishPacket("secret/r", "retained", 1, 1)
	retained.FixedHeader.Retain = true
	pub.send(retained)
	pub.ackOf(packets.Puback, 1)
	pk := userPacket(5, "sub", "sub")
	pk.Connect.Clean = false
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
	sub, _ := logIn(t, s, pk)
	sub.subscribe(filter("#", 1))
	for qos := range byte(3) {
		pub.publish("secret/1", "no", qos, 2)
		pub.publish("open", "yes", qos, 3)
		sub.message("yes")
	}
	sub.silent()
	sub.disconnect()
	pub.publish("secret/1", "no", 1, 4)
	pub.publish("late", "queued", 1, 5)
	pub.publish("open", "yes", 1, 6)
	acl.Store(loadACL(t, open+"\ntopic deny late\ntopic deny secret/#"))
	sub, _ = logIn(t, s, pk)
	sub.message("yes") // what waited may be read no more
	sub.silent()
	acl.Store(loadACL(t, open))
	pub.publish("secret/1", "now", 1, 7)
	sub.message("now")
}

// TestMayPublishWill: a will is published only if its client may publish there when
// it is due.
func TestMayPublishWill(t *testing.T) {
	s, acl := startWith(t, "user ann\ntopic write a/#\ntopic write w/#")
	die := func(id, topic string) {
		t.Helper()
		pk := userPacket(5, id, "ann")
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, topic, []byte(id)
		c, _ := logIn(t, s, pk)
		if id == "third" {
			acl.Store(loadACL(t, "user ann\ntopic write a/#"))
		}
		c.nc.Close()
	}
	die("first", "a/1")
	die("second", "b")
	die("third", "w/1")
	die("last", "a/2")
	within(t, func() bool {
		got := strings.Join(s.backend.payloads(), " ")
		return strings.Contains(got, "first") && strings.Contains(got, "last")
	})
	if got := strings.Join(s.backend.payloads(), " "); strings.Contains(got, "second") || strings.Contains(got, "third") {
		t.Errorf("stored %s", got)
	}
}

// TestExpel: the connections of users that are gone end, with a reason; the others
// go on.
func TestExpel(t *testing.T) {
	s := start(t, Options{})
	ann, _ := logIn(t, s, userPacket(5, "a", "ann"))
	four, _ := logIn(t, s, userPacket(4, "a4", "ann"))
	bob, _ := logIn(t, s, userPacket(5, "b", "bob"))
	if n := s.Expel(func(user string) bool { return user == "ann" }); n != 2 {
		t.Errorf("%d connections ended", n)
	}
	ann.closed(0x98)
	four.closed(0)
	bob.publish("x", "y", 1, 1)
}

// within waits until ok reports true.
func within(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it never comes")
		}
	}
}

// TestExpelWhileLoggingIn: a connection whose password was right before its user was
// removed does not slip through.
func TestExpelWhileLoggingIn(t *testing.T) {
	checking, removed := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	s := start(t, Options{Authenticate: func(context.Context, Connect) error {
		if asked.Add(1) > 1 {
			return ErrBadCredentials
		}
		close(checking)
		<-removed
		return nil
	}})
	c := dial(t, s)
	c.version = 5
	c.send(userPacket(5, "a", "ann"))
	<-checking
	if n := s.Expel(func(string) bool { return true }); n != 0 {
		t.Errorf("%d connections ended that were not there yet", n)
	}
	close(removed)
	c.expect(packets.Connack)
	c.closed(0x98)
}

// TestMayReadShared: a member of a shared subscription that may read the topic gets the
// message; a persistent session is owed nothing that it may not read.
func TestMayReadShared(t *testing.T) {
	s, _ := startWith(t, "user pub\ntopic #\nuser sub\ntopic read #\nuser deaf\ntopic read other")
	pub, _ := logIn(t, s, userPacket(5, "pub", "pub"))
	sub, _ := logIn(t, s, userPacket(5, "sub", "sub"))
	deaf, _ := logIn(t, s, userPacket(5, "deaf", "deaf"))
	for _, c := range []*testClient{deaf, sub} {
		c.subscribe(filter("$share/g/#", 1))
	}
	for i := range 6 {
		pub.publish("a", strconv.Itoa(i), 1, uint16(i+1))
		sub.message(strconv.Itoa(i))
	}
	deaf.silent()
	sub.disconnect()
	pub.publish("a", "nobody's", 1, 9)
	deaf.silent()
	pub.publish("other", "for deaf", 1, 10)
	deaf.message("for deaf")
}
