package redis_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/redis"
	"github.com/weirmq/weir/storage/storagetest"
)

// A server that answers as it is told shows what no real one does on demand:
// which outcome the caller hears for each answer, and how often it asks.

// answer answers one command. An error ends the connection.
type answer func(conn net.Conn) error

func say(text string) answer {
	return func(conn net.Conn) error {
		_, err := io.WriteString(conn, text+"\r\n")
		return err
	}
}

var errHangUp = errors.New("hang up")

// hangUp ends the connection without an answer.
func hangUp(net.Conn) error { return errHangUp }

// reset ends the connection without an answer, and the client's system is told so by a
// RST in the place of a FIN, as when the server leaves bytes unread.
func reset(conn net.Conn) error {
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	return errHangUp
}

// hang answers nothing for as long as the client waits.
func hang(conn net.Conn) error {
	_, err := io.Copy(io.Discard, conn)
	return err
}

func lastly(text string) answer {
	return func(conn net.Conn) error {
		say(text)(conn)
		return errHangUp
	}
}

// fake is such a server. It has an answer for each command that a bucket sends
// when it is opened, and others when it is told so.
type fake struct {
	listener    net.Listener
	connections sync.WaitGroup

	mu      sync.Mutex
	answers map[string][]answer // guarded by mu: by command, in turn; the last one again and again
	seen    map[string]int      // guarded by mu: commands
	open    []net.Conn          // guarded by mu: connections that were made
}

func newFake(t *testing.T) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{listener: listener, seen: make(map[string]int), answers: make(map[string][]answer)}
	for command, text := range map[string]string{
		"HELLO": "-ERR unknown command 'HELLO'", "INFO": "$0\r\n", "ZRANGE": "*0", "EVAL": ":-1",
		"AUTH": "+OK", "PING": "+PONG", "MULTI": "+OK", "ZADD": "+QUEUED", "SET": "+QUEUED", "EXEC": "*0", "GETRANGE": "$0\r\n",
	} {
		f.tell(command, say(text))
	}
	f.connections.Go(f.accept)
	t.Cleanup(func() {
		f.listener.Close()
		f.hangUpAll()
		f.connections.Wait()
	})
	return f
}

func (f *fake) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.open = append(f.open, conn)
		f.mu.Unlock()
		f.connections.Go(func() {
			defer conn.Close()
			f.serve(conn)
		})
	}
}

func (f *fake) serve(conn net.Conn) {
	commands := bufio.NewReader(conn)
	for {
		command, err := readCommand(commands)
		if err != nil {
			return
		}
		if f.next(strings.ToUpper(command))(conn) != nil {
			return
		}
	}
}

// readCommand reads one command and returns its first word.
func readCommand(r *bufio.Reader) (string, error) {
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line[0] != kind {
			return 0, errors.New("not the protocol of Redis")
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	words, err := number('*')
	if err != nil {
		return "", err
	}
	var first string
	for i := range words {
		size, err := number('$')
		if err != nil {
			return "", err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(r, word); err != nil {
			return "", err
		}
		if i == 0 {
			first = string(word[:size])
		}
	}
	return first, nil
}

func (f *fake) next(command string) answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[command]++
	answers := f.answers[command]
	switch len(answers) {
	case 0:
		return say("-ERR unknown command")
	case 1:
		return answers[0]
	}
	f.answers[command] = answers[1:]
	return answers[0]
}

// tell sets the answers to a command.
func (f *fake) tell(command string, answers ...answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[command] = answers
	f.seen[command] = 0
}

// count returns how often a command came in since it was told an answer.
func (f *fake) count(command string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[command]
}

// hangUpAll ends all connections.
func (f *fake) hangUpAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.open {
		conn.Close()
	}
}

func (f *fake) url() string { return "redis://" + f.listener.Addr().String() }

const (
	nothing, exists, unknown, stored = "nothing happened", "exists", "unknown", "stored"
	aborted                          = "-EXECABORT Transaction discarded because of previous errors."
)

func outcome(err error) string {
	switch {
	case errors.Is(err, storage.ErrUnknown):
		return unknown
	case errors.Is(err, storage.ErrExists):
		return exists
	case err != nil:
		return nothing
	}
	return stored
}

func TestCreateOutcomes(t *testing.T) {
	type answers map[string]answer
	refuse := func(why string) answers { return answers{"SET": say("-" + why), "EXEC": say(aborted)} }
	for _, test := range []struct {
		name    string
		answers answers
		want    string
		text    string // in the error
	}{
		{"stored", answers{"EXEC": say("*2\r\n:1\r\n+OK")}, stored, ""},
		{"taken", answers{"EXEC": say("*2\r\n:0\r\n$-1")}, exists, ""},
		{"taken, not listed", answers{"EXEC": say("*2\r\n:1\r\n$-1")}, exists, ""},
		{"listed, lost", answers{"EXEC": say("*2\r\n:0\r\n+OK")}, unknown, "lost this object"},

		{"out of memory", refuse("OOM command not allowed when used memory > 'maxmemory'."), nothing, "OOM"},
		{"disk trouble", refuse("MISCONF Errors writing to the AOF file"), nothing, "MISCONF"},
		{"replica", refuse("READONLY You can't write against a read only replica."), nothing, "READONLY"},
		{"loading", refuse("LOADING Redis is loading the dataset in memory"), nothing, "LOADING"},
		{"few replicas", refuse("NOREPLICAS Not enough good replicas to write."), nothing, "NOREPLICAS"},
		{"busy", refuse("BUSY Redis is busy running a script."), nothing, "BUSY"},
		{"moved", refuse("MOVED 3999 127.0.0.1:6381"), nothing, "MOVED"},
		{"cluster down", refuse("CLUSTERDOWN The cluster is down"), nothing, "CLUSTERDOWN"},
		{"no right", refuse("NOPERM this user has no permissions to run the 'set' command"), nothing, "permission denied"},
		{"unknown command", refuse("ERR unknown command 'SET'"), nothing, "unknown command"},
		{"aborted by itself", answers{"EXEC": say("-EXECABORT Transaction discarded because of: OOM")}, nothing, "EXECABORT"},

		{"no transactions", answers{"MULTI": say("-ERR unknown command 'MULTI'"), "ZADD": say(":1"), "SET": say("+OK"),
			"EXEC": say("-ERR EXEC without MULTI")}, unknown, "EXEC without MULTI"},
		{"half applied", answers{"EXEC": say("*2\r\n-WRONGTYPE Operation against a key\r\n+OK")}, unknown, "WRONGTYPE"},
		{"half applied, no right", answers{"EXEC": say("*2\r\n-NOPERM no\r\n+OK")}, unknown, "NOPERM"},
		{"proxy without server", answers{"EXEC": say("-ERR server connection closed")}, unknown, "connection closed"},
		{"no answers in it", answers{"EXEC": say("*0")}, unknown, ""},
		{"nil", answers{"EXEC": say("*-1")}, unknown, ""},
		{"other kind", answers{"EXEC": say("+OK")}, unknown, ""},
		{"garbage", answers{"EXEC": say("HTTP/1.1 400 Bad Request")}, unknown, ""},
		{"half an answer", answers{"EXEC": lastly("*2\r\n:1")}, unknown, ""},
		{"connection lost", answers{"EXEC": hangUp}, unknown, "EOF"},
		{"lost before", answers{"ZADD": hangUp}, unknown, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			b := mustOpen(t, f.url())
			f.tell("MULTI", say("+OK"))
			for command, answer := range test.answers {
				f.tell(command, answer)
			}
			err := b.Create(t.Context(), "some/key", []byte("body"))
			if got := outcome(err); got != test.want {
				t.Errorf("Create: %v: %s, want %s", err, got, test.want)
			}
			if err != nil && !strings.Contains(err.Error(), test.text) {
				t.Errorf("Create: %v, want %q", err, test.text)
			}
			if n := f.count("MULTI"); n != 1 {
				t.Errorf("%d transactions, want 1", n)
			}
		})
	}
}

// TestConnect: a connection that cannot be made is no doubt about the object.
func TestConnect(t *testing.T) {
	for name, greet := range map[string]answer{
		"lost":             hangUp,
		"too many clients": lastly("-ERR max number of clients reached"),
		"garbage":          say("HTTP/1.1 400 Bad Request"),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			b := mustOpen(t, f.url())
			f.tell("HELLO", greet)
			f.tell("MULTI", hangUp)
			f.hangUpAll()
			wantNothing(t, b)
			if n := f.count("MULTI"); n != 0 {
				t.Errorf("%d transactions on a connection that is not one", n)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		f := newFake(t)
		b := mustOpen(t, f.url())
		f.listener.Close()
		f.hangUpAll()
		wantNothing(t, b)
	})
}

func wantNothing(t *testing.T, b *redis.Bucket) {
	t.Helper()
	for op, err := range map[string]error{
		"Create": b.Create(t.Context(), "key", []byte("body")),
		"Delete": b.Delete(t.Context(), "key"),
	} {
		if outcome(err) != nothing {
			t.Errorf("%s: %v, want an error that says nothing happened", op, err)
		}
	}
}

// expired is a context that was over because of its deadline when it was
// cancelled: a real deadline might pass before the server was asked.
type expired struct{ context.Context }

func (c expired) Err() error {
	if c.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

// TestGivenUp: whoever waits no longer does not know, and Close does not wait
// for the answer.
func TestGivenUp(t *testing.T) {
	for _, want := range []error{context.Canceled, context.DeadlineExceeded} {
		t.Run(want.Error(), func(t *testing.T) {
			f := newFake(t)
			b := mustOpen(t, f.url())
			asked := make(chan struct{})
			for _, command := range []string{"EXEC", "EVAL", "GETRANGE", "ZRANGE"} {
				f.tell(command, func(conn net.Conn) error {
					asked <- struct{}{}
					return hang(conn)
				})
			}
			for op, do := range map[string]func(context.Context) error{
				"Create": func(ctx context.Context) error { return b.Create(ctx, "key", []byte("body")) },
				"Delete": func(ctx context.Context) error { return b.Delete(ctx, "key") },
				"Get":    func(ctx context.Context) error { _, err := b.Get(ctx, "key", 0, -1); return err },
				"List":   func(ctx context.Context) error { _, err := b.List(ctx, "", "", 1); return err },
			} {
				ctx, cancel := context.WithCancel(t.Context())
				if want == context.DeadlineExceeded {
					ctx = expired{ctx}
				}
				done := make(chan error, 1)
				go func() { done <- do(ctx) }()
				<-asked
				cancel()
				err := <-done
				changes := op == "Create" || op == "Delete"
				if errors.Is(err, storage.ErrUnknown) != changes || !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v, unknown %v", op, err, want, changes)
				}
			}
		})
	}
}

// TestGivenUpEarly: a transaction that was the request ended before it was sent to its
// end is not sent to its end later. Its body is not read any more.
func TestGivenUpEarly(t *testing.T) {
	f := newFake(t)
	b := mustOpen(t, f.url())
	ctx, cancel := context.WithCancel(t.Context())
	resume := make(chan struct{})
	f.tell("EXEC", say("*2\r\n:1\r\n+OK"))
	f.tell("ZADD", func(net.Conn) error {
		cancel()
		<-resume // and nothing is read meanwhile
		return nil
	})
	body := storagetest.Content("body", 32<<20)
	err := b.Create(ctx, "key", body)
	if outcome(err) != nothing || !errors.Is(err, context.Canceled) {
		t.Errorf("Create: %v, want context.Canceled and that nothing happened", err)
	}
	clear(body)
	close(resume)
	b.Close()
	f.listener.Close()
	f.connections.Wait() // all that was sent has been read
	if n := f.count("EXEC"); n != 0 {
		t.Errorf("%d transactions were sent to their end", n)
	}
}

func TestDeleteOutcomes(t *testing.T) {
	const script = " script: e4f1, on @user_script:3."
	for _, test := range []struct {
		name   string
		answer answer
		want   string
	}{
		{"deleted", say(":2"), stored},
		{"replica", say("-READONLY You can't write against a read only replica." + script), nothing},
		{"disk trouble", say("-MISCONF Errors writing to the AOF file." + script), nothing},
		{"loading", say("-LOADING Redis is loading the dataset in memory"), nothing},
		{"moved", say("-MOVED 3999 127.0.0.1:6381"), nothing},
		{"no right", say("-NOPERM ACL failure in script" + script), unknown},
		{"older Redis", say("-ERR Error running script (call to f_e4f1): @user_script:3: -READONLY You can't"), unknown},
		{"garbage", say("HTTP/1.1 400 Bad Request"), unknown},
		{"connection lost", hangUp, unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			b := mustOpen(t, f.url())
			f.tell("EVAL", test.answer)
			if err := b.Delete(t.Context(), "a", "b"); outcome(err) != test.want {
				t.Errorf("Delete: %v: %s, want %s", err, outcome(err), test.want)
			}
			if n := f.count("EVAL"); n != 1 {
				t.Errorf("%d scripts, want 1", n)
			}
		})
	}
}

func TestGetOutcomes(t *testing.T) {
	bulk := func(text string) answer { return say(fmt.Sprintf("$%d\r\n%s", len(text), text)) }
	for _, test := range []struct {
		name    string
		look    []answer // at the bytes
		size    answer
		want    string
		missing bool
		fails   bool
	}{
		{"there", []answer{bulk("234")}, hangUp, "234", false, false},
		{"missing", []answer{bulk("")}, say(":-1"), "", true, true},
		{"lost", []answer{bulk("")}, say(":-2"), "", false, true},
		{"empty", []answer{bulk("")}, say(":0"), "", false, false},
		{"beyond its end", []answer{bulk("")}, say(":2"), "", false, false},
		{"created in between", []answer{bulk(""), bulk("234")}, say(":9"), "234", false, false},
		{"no right", []answer{say("-NOPERM no")}, hangUp, "", false, true},
		{"loading", []answer{say("-LOADING Redis is loading the dataset in memory")}, hangUp, "", false, true},
		{"other kind", []answer{bulk("")}, bulk("9"), "", false, true},
		{"half an answer", []answer{lastly("$3\r\n2")}, hangUp, "", false, true},
		{"connection lost", []answer{hangUp}, hangUp, "", false, true},
		{"lost at the second look", []answer{bulk("")}, hangUp, "", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			b := mustOpen(t, f.url())
			f.tell("GETRANGE", test.look...)
			f.tell("EVAL", test.size)
			got, err := b.Get(t.Context(), "key", 2, 3)
			if (err != nil) != test.fails || errors.Is(err, fs.ErrNotExist) != test.missing || string(got) != test.want {
				t.Errorf("Get: %q, %v, want %q, missing %v", got, err, test.want, test.missing)
			}
			if errors.Is(err, storage.ErrUnknown) {
				t.Errorf("Get: %v, which is for changes", err)
			}
		})
	}
}
