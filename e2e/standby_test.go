package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// twoNodes are two weir-clouds on one bucket, that keep their addresses.
type twoNodes struct {
	t      *testing.T
	dir    string
	ports  map[string][2]int // by name
	doors  func(n *twoNodes, name string) []string
	owner  *harness.Process
	second *harness.Process
}

// startTwoNodes starts nodes that have an open listener for Kafka, and one for logins by
// SCRAM.
func startTwoNodes(t *testing.T) *twoNodes {
	t.Helper()
	return startNodes(t, func(n *twoNodes, name string) []string {
		return []string{"--kafka", n.address(name, 0), "--kafka", fmt.Sprintf("name=login,listen=%s,sasl=scram", n.address(name, 1)),
			"--kafka-authorize", "--kafka-super-users", "ANONYMOUS"}
	})
}

// startNodes starts nodes with the doors that a node of the name is to have.
func startNodes(t *testing.T, doors func(n *twoNodes, name string) []string) *twoNodes {
	t.Helper()
	n := &twoNodes{t: t, dir: t.TempDir(), ports: make(map[string][2]int), doors: doors}
	for _, name := range []string{"one", "two"} {
		n.ports[name] = [2]int{freePort(t), freePort(t)}
	}
	t.Cleanup(func() {
		for _, p := range []*harness.Process{n.second, n.owner} {
			if p != nil {
				p.Kill()
			}
		}
		checkBucket(t, n.bucket())
		if t.Failed() {
			keepLogs(t, n.dir)
		}
	})
	n.owner = n.start("one")
	n.second = n.start("two")
	if role := n.second.Addr["role"]; role != "standby" {
		t.Fatalf("the second node is %s", role)
	}
	return n
}

func (n *twoNodes) bucket() string { return "file:" + filepath.Join(n.dir, "bucket") }

func (n *twoNodes) start(name string) *harness.Process {
	n.t.Helper()
	p, err := harness.Start(n.dir, name, "weir-cloud", append([]string{"--data", filepath.Join(n.dir, name), "--node-id", name, "--bucket", n.bucket(),
		"--sync", "off", "--http", "127.0.0.1:0", "--peer", "127.0.0.1:0"}, n.doors(n, name)...)...)
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

// address is that of a node's first listener (0), or of its second one (1).
func (n *twoNodes) address(name string, listener int) string {
	return fmt.Sprintf("127.0.0.1:%d", n.ports[name][listener])
}

// takeOver kills the owner, waits until the other leads, and starts the dead one again,
// which stands by from then on.
func (n *twoNodes) takeOver() {
	n.t.Helper()
	led := func() int { // how often it has led: its log is that of all its lives
		body, err := os.ReadFile(n.second.Log)
		if err != nil {
			n.t.Error(err)
		}
		return strings.Count(string(body), "msg=leading")
	}
	before := led()
	n.owner.Kill()
	within(n.t, 30*time.Second, "the standby leads", func() bool { return led() > before })
	n.owner, n.second = n.second, n.start(n.owner.Name)
	if role := n.second.Addr["role"]; role != "standby" {
		n.t.Errorf("the node that comes back is %s", role)
	}
}

// weirctl runs weirctl at the owner.
func (n *twoNodes) weirctl(args ...string) string {
	n.t.Helper()
	out, stderr, err := harness.Run("weirctl", append(args, "--cloud", "http://"+n.owner.Addr["http"], "--data", filepath.Join(n.dir, n.owner.Name))...)
	if err != nil {
		n.t.Fatalf("weirctl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr)
	}
	return out
}

// told is a client that does what it is told: see clients/python/standby.py.
type told interface {
	do(order string, args ...string) (string, error)
}

// must is what a client answers.
func must(t *testing.T, c told, order string, args ...string) string {
	t.Helper()
	out, err := c.do(order, args...)
	if err != nil {
		t.Fatalf("%s %s: %v", order, strings.Join(args, " "), err)
	}
	return out
}

// topicsAt are the topics that a client sees, but for Kafka's own.
func topicsAt(c told) (string, error) {
	out, err := c.do("topics")
	names := slices.DeleteFunc(strings.Split(out, ","), func(name string) bool { return strings.HasPrefix(name, "__") })
	return strings.Join(names, ","), err
}

// sees waits until a client sees these topics and no others.
func sees(t *testing.T, c told, want string) {
	t.Helper()
	within(t, 15*time.Second, "the client sees "+want, func() bool {
		out, err := topicsAt(c)
		return err == nil && out == want
	})
}

// spoken is a program that reads orders and answers them line by line.
type spoken struct {
	in  io.Writer
	out *bufio.Scanner
}

func (s *spoken) do(order string, args ...string) (string, error) {
	if _, err := fmt.Fprintln(s.in, strings.Join(append([]string{order}, args...), " ")); err != nil {
		return "", err
	}
	if !s.out.Scan() {
		return "", fmt.Errorf("the client is gone: %w", s.out.Err())
	}
	verdict, text, _ := strings.Cut(s.out.Text(), " ")
	if verdict != "ok" {
		return "", fmt.Errorf("%s", text)
	}
	return text, nil
}

// speak starts a program that is told what to do, until the test ends.
func speak(t *testing.T, cmd *exec.Cmd) *spoken {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	t.Cleanup(func() {
		in.Close()
		late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", cmd.Path, err)
		}
	})
	return &spoken{in, lines}
}

// kcats is kcat as a client that is told what to do.
type kcats struct {
	t        *testing.T
	program  string
	flags    []string
	load     *exec.Cmd
	feed     io.WriteCloser
	stopping chan struct{}
	fed      chan int
}

func (k *kcats) command(args ...string) *exec.Cmd {
	return exec.CommandContext(k.t.Context(), k.program, slices.Concat(k.flags, args)...)
}

func (k *kcats) do(order string, args ...string) (string, error) {
	switch order {
	case "topics":
		return k.topics()
	case "send", "plain":
		return k.send(args[0], args[1], args[2], order == "send")
	case "read":
		out, err := output(k.command("-q", "-X", "auto.offset.reset=earliest", "-c", args[1], "-f", "%s\\n", "-G", "group", args[0]))
		return strings.Join(strings.Fields(out), ","), err
	case "load":
		return "", k.startLoad(args[0])
	case "stop":
		close(k.stopping)
		n := <-k.fed
		return strconv.Itoa(n), k.load.Wait()
	}
	return "", fmt.Errorf("kcat cannot %s", order)
}

func output(cmd *exec.Cmd) (string, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Cancel() })
	defer late.Stop()
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, last(stderr.String(), 1000))
	}
	return string(out), err
}

func (k *kcats) topics() (string, error) {
	out, err := output(k.command("-L", "-J"))
	if err != nil {
		return "", err
	}
	var listed struct {
		Topics []struct {
			Topic string `json:"topic"`
		} `json:"topics"`
	}
	if err := json.Unmarshal([]byte(out), &listed); err != nil {
		return "", fmt.Errorf("%w: %s", err, last(out, 1000))
	}
	var names []string
	for _, t := range listed.Topics {
		names = append(names, t.Topic)
	}
	slices.Sort(names)
	return strings.Join(names, ","), nil
}

func (k *kcats) send(topic, first, count string, idempotent bool) (string, error) {
	from, err := strconv.Atoi(first)
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "%d:%d\n", (from+i)%7, from+i)
	}
	cmd := k.command("-P", "-t", topic, "-K:", "-X", fmt.Sprint("enable.idempotence=", idempotent))
	cmd.Stdin = strings.NewReader(lines.String())
	_, err = output(cmd)
	return count, err
}

// startLoad has kcat produce a record every few milliseconds until "stop".
func (k *kcats) startLoad(topic string) error {
	k.load = k.command("-P", "-t", topic, "-K:", "-X", "enable.idempotence=true", "-X", "linger.ms=5")
	k.load.Stderr = k.t.Output()
	var err error
	if k.feed, err = k.load.StdinPipe(); err != nil {
		return err
	}
	k.stopping, k.fed = make(chan struct{}), make(chan int, 1)
	if err := k.load.Start(); err != nil {
		return err
	}
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-k.stopping:
				k.feed.Close()
				k.fed <- n
				return
			case <-tick.C:
			}
			fmt.Fprintf(k.feed, "%d:%d\n", n%7, n)
		}
	}()
	return nil
}

// A client is made for servers, with settings of librdkafka's.
type clientKind struct {
	name string
	make func(t *testing.T, servers string, config []string) told
}

func pythonClient(program func(t *testing.T) string) func(*testing.T, string, []string) told {
	return func(t *testing.T, servers string, config []string) told {
		args := slices.Concat([]string{"clients/python/standby.py", servers}, config)
		return speak(t, exec.CommandContext(context.WithoutCancel(t.Context()), program(t), args...)) // it ends when its input does
	}
}

// clientKinds are those of each change, and with WEIR_SOAK=1 all.
func clientKinds() []clientKind {
	kinds := []clientKind{
		{"kcat", func(t *testing.T, servers string, config []string) told {
			flags := []string{"-b", servers, "-X", "topic.metadata.refresh.interval.ms=1000"}
			for _, c := range config {
				flags = append(flags, "-X", c)
			}
			return &kcats{t: t, program: need(t, "kcat", "kcat"), flags: flags}
		}},
		{"confluent-kafka", pythonClient(func(t *testing.T) string { return filepath.Join(built(t, "python"), "bin", "python") })},
	}
	if os.Getenv("WEIR_SOAK") != "" {
		kinds = append(kinds, soakedClients()...)
	}
	return kinds
}

// TestStandbyClients: clients that know only the standby, or know it first or last, find
// topics and have theirs made, and lose and double nothing when the owner is killed.
func TestStandbyClients(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, kind := range clientKinds() {
		for name, order := range map[string][]string{"standby alone": {"two"}, "standby first": {"two", "one"}, "standby last": {"one", "two"}} {
			t.Run(kind.name+", "+name, func(t *testing.T) {
				n := startTwoNodes(t)
				n.weirctl("topics", "create", "there", "--partitions", "3")
				var servers []string
				for _, node := range order {
					servers = append(servers, n.address(node, 0))
				}
				c := kind.make(t, strings.Join(servers, ","), nil)
				sees(t, c, "there")
				must(t, c, "load", "loaded")
				within(t, 30*time.Second, "the topic is made", func() bool { return strings.Contains(n.weirctl("topics"), "loaded") })
				n.takeOver()
				pause(t.Context(), time.Second) // and it goes on
				sent, err := strconv.Atoi(must(t, c, "stop"))
				if err != nil || sent == 0 {
					t.Fatalf("sent %d: %v", sent, err)
				}
				checkValues(t, must(t, c, "read", "loaded", strconv.Itoa(sent)), sent)
				// A new client at the node that came back: it knows the new owner's topics.
				sees(t, kind.make(t, n.address("one", 0), nil), "loaded,there")
				t.Logf("%d records", sent)
			})
		}
	}
}

// checkValues proves that the values are 0 to n-1, each once.
func checkValues(t *testing.T, values string, n int) {
	t.Helper()
	seen := make(map[string]bool)
	all := strings.Split(values, ",")
	for _, v := range all {
		seen[v] = true
	}
	missing := 0
	for i := range n {
		if !seen[strconv.Itoa(i)] {
			missing++
		}
	}
	if missing > 0 || len(all) != n {
		t.Errorf("%d of %d records are missing, %d were read", missing, n, len(all))
	}
}

// TestStandbyLogins: on a standby users log in by SCRAM and see what they may, before a
// takeover and behind it, and nobody else's topics.
func TestStandbyLogins(t *testing.T) {
	for _, kind := range clientKinds() {
		t.Run(kind.name, func(t *testing.T) {
			n := startTwoNodes(t)
			n.weirctl("topics", "create", "ann-1")
			n.weirctl("topics", "create", "bob-1")
			for _, user := range []string{"ann", "bob"} {
				n.addUser(user, user+"-secret")
				n.weirctl("acls", "add", "--user", user, "--allow", "read,write,create", "--topic", user+"-", "--prefix")
				n.weirctl("acls", "add", "--user", user, "--allow", "read", "--group", "group")
			}
			login := func(user string) told {
				return kind.make(t, n.address("two", 1), []string{"security.protocol=SASL_PLAINTEXT", "sasl.mechanisms=SCRAM-SHA-256",
					"sasl.username=" + user, "sasl.password=" + user + "-secret"})
			}
			ann, bob := login("ann"), login("bob")
			sees(t, ann, "ann-1") // as soon as the standby knows her
			sees(t, bob, "bob-1")
			must(t, ann, "load", "ann-2")
			within(t, 30*time.Second, "the topic is made", func() bool { return strings.Contains(n.weirctl("topics"), "ann-2") })
			n.takeOver()
			pause(t.Context(), time.Second)
			sent, err := strconv.Atoi(must(t, ann, "stop"))
			if err != nil {
				t.Fatal(err)
			}
			checkValues(t, must(t, ann, "read", "ann-2", strconv.Itoa(sent)), sent)
			sees(t, bob, "bob-1")
			sees(t, ann, "ann-1,ann-2")
		})
	}
}

// addUser lets a user log in.
func (n *twoNodes) addUser(name, password string) {
	n.t.Helper()
	binary, err := harness.Binary("weirctl")
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.CommandContext(n.t.Context(), binary, "users", "add", name, "--cloud", "http://"+n.owner.Addr["http"], "--data", filepath.Join(n.dir, n.owner.Name))
	cmd.Stdin = strings.NewReader(password + "\n")
	run(n.t, cmd)
}

// TestStandbyRecreated: a client that knows only the standby notices that a topic is
// deleted, and writes to and reads the one that is created under its name.
func TestStandbyRecreated(t *testing.T) {
	for _, kind := range clientKinds() {
		t.Run(kind.name, func(t *testing.T) {
			n := startTwoNodes(t)
			n.weirctl("topics", "create", "again", "--partitions", "2")
			c := kind.make(t, n.address("two", 0), []string{"allow.auto.create.topics=false"})
			sees(t, c, "again")
			must(t, c, "plain", "again", "0", "20")
			checkValues(t, must(t, c, "read", "again", "20"), 20)
			n.weirctl("topics", "delete", "again")
			sees(t, c, "")
			pause(t.Context(), 3*time.Second) // its producer and its consumer do, too
			n.weirctl("topics", "create", "again", "--partitions", "3")
			sees(t, c, "again")
			must(t, c, "plain", "again", "0", "50")
			checkValues(t, must(t, c, "read", "again", "50"), 50)
		})
	}
}
