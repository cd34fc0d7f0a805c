// Package hostile attacks the real binaries as a stranger, a device, a gateway
// or a client might, and measures what the others notice of it. An attacker is
// a process of its own with the lowest priority: what it costs is what the
// attacked one makes of it.
//
// In CI each attack lasts some seconds, and is asked whether everybody else was
// served and memory stayed within its bound. With WEIR_SOAK=1 it lasts a
// minute, and the delays have bounds too.
package hostile

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// attacks are what an attacker can do, by name. Each one goes on until its
// process is killed.
var attacks = []map[string]func(*tally, []string){mqttAttacks, adminAttacks, syncAttacks, kafkaAttacks}

// attackVariable names the attack that the process is to run in the place of
// the tests.
const attackVariable = "WEIR_HOSTILE_ATTACK"

func TestMain(m *testing.M) {
	name := os.Getenv(attackVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	for _, some := range attacks {
		if run := some[name]; run != nil {
			t := &tally{counts: make(map[string]int)}
			go t.tell()
			run(t, os.Args[1:])
			select {} // until the test has seen enough
		}
	}
	fmt.Fprintln(os.Stderr, "no such attack:", name)
	os.Exit(1)
}

func soak() bool { return os.Getenv("WEIR_SOAK") != "" }

// tally is what an attacker has done, for the test to see that it did.
type tally struct {
	mu     sync.Mutex
	counts map[string]int // guarded by mu
}

func (t *tally) add(what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[what] += n
}

// tell prints the counts again and again.
func (t *tally) tell() {
	for {
		time.Sleep(50 * time.Millisecond)
		t.mu.Lock()
		var line strings.Builder
		for _, what := range slices.Sorted(maps.Keys(t.counts)) {
			fmt.Fprintf(&line, "%s=%d ", what, t.counts[what])
		}
		t.mu.Unlock()
		fmt.Println(line.String())
	}
}

// attacker is a process that attacks.
type attacker struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu     sync.Mutex
	counts map[string]int // guarded by mu
}

// attack starts an attacker. It ends with the test, or with stop.
func attack(t *testing.T, name string, args ...string) *attacker {
	t.Helper()
	a := &attacker{cmd: exec.Command("nice", append([]string{"-n", "19", os.Args[0]}, args...)...), done: make(chan struct{}), counts: make(map[string]int)}
	a.cmd.Env = append(os.Environ(), attackVariable+"="+name)
	a.cmd.Stderr = os.Stderr
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			a.mu.Lock()
			for _, field := range strings.Fields(lines.Text()) {
				what, n, _ := strings.Cut(field, "=")
				a.counts[what], _ = strconv.Atoi(n)
			}
			a.mu.Unlock()
		}
		_ = a.cmd.Wait() // it is killed
	}()
	t.Cleanup(a.stop)
	return a
}

func (a *attacker) stop() {
	_ = a.cmd.Process.Kill() // or it is gone already
	<-a.done
}

func (a *attacker) count(what string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counts[what]
}

// reached waits until the attacker has done something n times.
func (a *attacker) reached(t *testing.T, what string, n int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); a.count(what) < n; {
		if time.Now().After(deadline) {
			t.Fatalf("the attack is none: %s %d times, not %d", what, a.count(what), n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// figures are how long round trips took.
type figures struct {
	median, p99, most time.Duration
	trips             int
}

func (f figures) String() string {
	return fmt.Sprintf("%d round trips, median %v, p99 %v, longest %v", f.trips,
		f.median.Round(10*time.Microsecond), f.p99.Round(10*time.Microsecond), f.most.Round(10*time.Microsecond))
}

// round is how many round trips a measurement has, and how far apart they
// begin: 1,000 in a minute, 60 in three seconds.
func round() (trips int, every time.Duration) {
	if soak() {
		return 1000, 60 * time.Millisecond
	}
	return 60, 50 * time.Millisecond
}

// measure makes the round trips of a measurement. None may fail.
func measure(t *testing.T, trip func(i int) error) figures {
	t.Helper()
	trips, every := round()
	all := make([]time.Duration, 0, trips)
	for next := time.Now(); len(all) < trips; next = next.Add(every) {
		time.Sleep(time.Until(next))
		begin := time.Now()
		if err := trip(len(all)); err != nil {
			t.Fatalf("round trip %d fails after %v: %v", len(all), time.Since(begin), err)
		}
		all = append(all, time.Since(begin))
	}
	slices.Sort(all)
	return figures{median: all[len(all)/2], p99: all[len(all)*99/100], most: all[len(all)-1], trips: len(all)}
}

// compare reports what an attack cost others. The bounds are those of a soak:
// on a busy machine a few seconds say nothing about the tail.
func compare(t *testing.T, what string, calm, storm figures) {
	t.Helper()
	t.Logf("%s without attack: %v", what, calm)
	t.Logf("%s under attack:   %v (%.1f times the median, %.1f times the p99)", what, storm,
		float64(storm.median)/float64(calm.median), float64(storm.p99)/float64(calm.p99))
	if !soak() {
		return
	}
	if storm.median > 2*calm.median || storm.p99 > 4*calm.p99 || storm.most > time.Second {
		t.Errorf("%s: more than twice the median, four times the p99, or a second", what)
	}
}

// highWater is the largest resident memory that a process ever had, in bytes.
func highWater(t *testing.T, pid int) int64 {
	t.Helper()
	body, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// bounded checks the memory of an attacked process.
func bounded(t *testing.T, pid int, most int64) {
	t.Helper()
	n := highWater(t, pid)
	t.Logf("at most %.1f MB of memory", float64(n)/1e6)
	if n > most {
		t.Errorf("%d bytes of memory, more than %d", n, most)
	}
}
