package hostile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/storage/record"
)

var kafkaAttacks = map[string]func(*tally, []string){
	"kafka-announce": announce, "kafka-halves": sendHalfLengths, "kafka-polls": pollInLine,
	"kafka-readers": fetchUnread, "kafka-bombs": produceBombs, "kafka-passwords": guessPlain,
}

// kafkaNode is a weir-cloud that is attacked: one listener is open to anybody, one to users.
type kafkaNode struct {
	*harness.Process
	open, users string // addresses of the listeners
}

func startKafkaNode(t *testing.T) *kafkaNode {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // --kafka says only where the first one is
	if err != nil {
		t.Fatal(err)
	}
	users := l.Addr().String()
	_ = l.Close()
	dir := t.TempDir()
	p, err := harness.Start(dir, "cloud", "weir-cloud", "--data", filepath.Join(dir, "cloud"), "--sync", "off", "--http", "127.0.0.1:0",
		"--kafka", "127.0.0.1:0", "--kafka", "name=users,sasl=plain,listen="+users)
	if err != nil {
		t.Fatal(err)
	}
	n := &kafkaNode{Process: p, open: p.Addr["kafka"], users: users}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			t.Logf("log of the node:\n%s", n.Tail(40))
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.open))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopics(t.Context(), 1, 1, nil, "victim", "attack"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: "ann", Mechanism: kadm.ScramSha512, Iterations: 8192, Password: "ann's secret"}}); err != nil {
		t.Fatal(err)
	}
	return n
}

// victims are clients that were there before the attack.
type victims struct {
	asks, produces *kafkaClient
	batch          []byte
}

func (n *kafkaNode) victims(t *testing.T) *victims {
	t.Helper()
	v := &victims{}
	var err error
	if v.batch, err = batch(record.None, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []**kafkaClient{&v.asks, &v.produces} {
		if *c, err = dialKafka(n.users, "127.0.0.1"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*c).nc.Close() })
		if err := (*c).logIn("ann", "ann's secret"); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// measure makes round trips of both, in turn. None may fail.
func (v *victims) measure(t *testing.T) (asks, produces figures) {
	t.Helper()
	trips, every := round()
	var all [2][]time.Duration
	for next := time.Now(); len(all[0]) < trips; next = next.Add(every) {
		time.Sleep(time.Until(next))
		for i, trip := range []func() error{v.asks.versions, func() error { return v.produces.produce("victim", v.batch) }} {
			begin := time.Now()
			if err := trip(); err != nil {
				t.Fatalf("round trip %d fails after %v: %v", len(all[i]), time.Since(begin), err)
			}
			all[i] = append(all[i], time.Since(begin))
		}
	}
	of := func(all []time.Duration) figures {
		slices.Sort(all)
		return figures{median: all[len(all)/2], p99: all[len(all)*99/100], most: all[len(all)-1], trips: len(all)}
	}
	return of(all[0]), of(all[1])
}

// newcomer is a client that comes anew each time, and logs in.
func (n *kafkaNode) newcomer(int) error {
	c, err := dialKafka(n.users, "127.0.0.1")
	if err != nil {
		return err
	}
	defer c.nc.Close()
	if err := c.logIn("ann", "ann's secret"); err != nil {
		return err
	}
	return c.versions()
}

// survive measures the victims without and with an attack, and a few newcomers.
func (n *kafkaNode) survive(t *testing.T, prepare func(a *attacker), name string, args ...string) {
	t.Helper()
	v := n.victims(t)
	calmAsks, calmProduces := v.measure(t)
	a := attack(t, name, args...)
	prepare(a)
	asks, produces := v.measure(t)
	compare(t, "ApiVersions", calmAsks, asks)
	compare(t, "Produce", calmProduces, produces)
	for i := range 5 {
		if err := n.newcomer(i); err != nil {
			t.Errorf("newcomer: %v", err)
		}
	}
	for what, f := range map[string]figures{"ApiVersions": asks, "Produce": produces} {
		if f.most > 8*time.Second { // without limits it is longer; on a busy machine it is not
			t.Errorf("%s took %v", what, f.most)
		}
	}
	bounded(t, n.Pid(), nodeMemory)
	a.stop()
}

// crowd has so many connections do something again and again. What ends begins anew,
// after a while.
func crowd(count *tally, n int, do func(i int) error) {
	for i := range n {
		go func() {
			for {
				if err := do(i); err != nil {
					count.add("failed", 1)
				}
				time.Sleep(500 * time.Millisecond)
			}
		}()
	}
}

// announcing opens a connection that sends the beginning of a request of so many bytes,
// and then waits to be closed.
func announcing(count *tally, addr, host string, key kmsg.Key, version int16, size, sent int) error {
	c, err := dialKafka(addr, host)
	if err != nil {
		return err
	}
	defer c.nc.Close()
	p := binary.BigEndian.AppendUint32(nil, uint32(size))
	p = binary.BigEndian.AppendUint16(p, uint16(key))
	p = binary.BigEndian.AppendUint16(p, uint16(version))
	p = append(p, make([]byte, max(0, sent-len(p)))...)
	if _, err := c.nc.Write(p[:sent]); err != nil {
		return err
	}
	count.add("sent", 1)
	_, err = c.br.ReadByte()
	return err
}

// announce has 600 connections send 15 bytes of a request of 65,000 to the listener
// with logins, and two send 15 of one of 16 MiB to the other.
func announce(count *tally, args []string) {
	crowd(count, 600, func(int) error {
		return announcing(count, args[0], attackerHost, kmsg.SASLAuthenticate, 1, 65_000, 15)
	})
	crowd(count, 2, func(int) error {
		return announcing(count, args[1], attackerHost, kmsg.Produce, 8, 16<<20, 15)
	})
}

func TestAnnouncedRequests(t *testing.T) {
	n := startKafkaNode(t)
	n.survive(t, func(a *attacker) { a.reached(t, "sent", 500) }, "kafka-announce", n.users, n.open)
}

// sendHalfLengths has as many connections as there is place for send half a length.
func sendHalfLengths(count *tally, args []string) {
	crowd(count, 2_100, func(i int) error {
		return announcing(count, args[0], fmt.Sprintf("127.0.0.%d", 2+i%4), kmsg.ApiVersions, 2, 20, 2)
	})
}

func TestHalfLengths(t *testing.T) {
	n := startKafkaNode(t)
	n.survive(t, func(a *attacker) { a.reached(t, "sent", 2_000) }, "kafka-halves", n.open)
	// At the attacked listener too there is a place for a client that says something.
	c, err := dialKafka(n.open, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.nc.Close()
	if err := c.versions(); err != nil {
		t.Errorf("newcomer at the attacked listener: %v", err)
	}
}

// pollInLine has three connections send Fetches of 1 MB, one behind the other, that
// wait for 100 s.
func pollInLine(count *tally, args []string) {
	q := fetchRequest("attack", 100_000, 1, 900_000)
	crowd(count, 3, func(int) error {
		c, err := dialKafka(args[0], attackerHost)
		if err != nil {
			return err
		}
		defer c.nc.Close()
		go func() {
			for range 17 {
				if c.send(q) != nil {
					return
				}
				count.add("sent", 1)
			}
		}()
		_, err = c.br.ReadByte()
		return err
	})
}

func TestPollsInLine(t *testing.T) {
	n := startKafkaNode(t)
	n.survive(t, func(a *attacker) { a.reached(t, "sent", 3) }, "kafka-polls", n.open)
}

// fetchUnread has 200 consumers ask for all that there is, again and again, and read
// nothing.
func fetchUnread(count *tally, args []string) {
	crowd(count, 200, func(int) error {
		c, err := dialKafka(args[0], attackerHost)
		if err != nil {
			return err
		}
		defer c.nc.Close()
		_ = c.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
		for range 64 {
			if err := c.send(fetchRequest("attack", 1_000, 1, 100_000)); err != nil {
				return err
			}
			count.add("sent", 1)
		}
		time.Sleep(time.Minute)
		return nil
	})
}

func TestUnreadAnswers(t *testing.T) {
	n := startKafkaNode(t)
	c, err := dialKafka(n.open, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.nc.Close()
	value := make([]byte, 900_000)
	for i := range value {
		value[i] = byte(i * i >> 7)
	}
	b, err := batch(record.None, value)
	for range 20 {
		if err == nil {
			err = c.produce("attack", b)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	n.survive(t, func(a *attacker) { a.reached(t, "sent", 400) }, "kafka-readers", n.open)
}

// bombCodecs are those of a crowd of 50 that writes what inflates to much. Snappy is
// not among them: it makes no more than 22 bytes of one.
var bombCodecs = []record.Codec{record.Zstd, record.Zstd, record.LZ4, record.Gzip}

// produceBombs has so many connections write a batch that inflates to 62 MiB, again
// and again.
func produceBombs(count *tally, args []string) {
	var bombs [][]byte
	for _, codec := range bombCodecs {
		b, err := batch(codec, make([]byte, 62<<20))
		if err != nil {
			panic(err)
		}
		bombs = append(bombs, b)
	}
	connections, err := strconv.Atoi(args[1])
	if err != nil {
		panic(err)
	}
	crowd(count, connections, func(i int) error {
		c, err := dialKafka(args[0], attackerHost)
		if err != nil {
			return err
		}
		defer c.nc.Close()
		for {
			count.add("sent", 1)
			if err := c.produce("attack", bombs[i%len(bombs)]); err != nil {
				return err
			}
			count.add("landed", 1)
		}
	})
}

func TestInflatedRecords(t *testing.T) {
	n := startKafkaNode(t)
	connections := 50
	if soak() {
		connections = 200
	}
	n.survive(t, func(a *attacker) { a.reached(t, "sent", connections); a.reached(t, "landed", 3) }, "kafka-bombs", n.open, strconv.Itoa(connections))
}

// guessPlain has 100 connections guess passwords at the listener with logins, at once
// and for ever.
func guessPlain(count *tally, args []string) {
	var mu sync.Mutex
	n := 0
	crowd(count, 100, func(int) error {
		c, err := dialKafka(args[0], attackerHost)
		if err != nil {
			return err
		}
		defer c.nc.Close()
		mu.Lock()
		n++
		password := fmt.Sprint("guess ", n)
		mu.Unlock()
		count.add("guesses", 1)
		err = c.logIn("ann", password)
		if errors.Is(err, errLogin) {
			count.add("answered", 1)
		}
		return err
	})
}

func TestGuessedPasswords(t *testing.T) {
	n := startKafkaNode(t)
	var crowd *attacker
	began := time.Now()
	n.survive(t, func(a *attacker) { crowd = a; a.reached(t, "guesses", 100) }, "kafka-passwords", n.users)
	// The address has one try, and then a pause that doubles up to 8 s.
	if answered, most := crowd.count("answered"), 5+int(time.Since(began)/(8*time.Second)); answered > most {
		t.Errorf("%d guesses were answered, more than %d", answered, most)
	}
	body, err := os.ReadFile(n.Log)
	if err != nil {
		t.Fatal(err)
	}
	if lines, most := strings.Count(string(body), "kafka login failed"), 5*(2+int(time.Since(began)/time.Minute)); lines > most {
		t.Errorf("%d lines about it, more than %d", lines, most)
	}
}
