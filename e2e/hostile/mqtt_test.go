package hostile

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// gatewayMemory is how many bytes of memory a gateway may ever take.
const gatewayMemory = 60_000_000

// attackerHost is where the attackers of a gateway come from, on the loopback
// interface like everybody else.
const attackerHost = "127.0.0.2"

var mqttAttacks = map[string]func(*tally, []string){
	"mqtt-sessions": keepSessions, "mqtt-filters": subscribeLong, "mqtt-halves": sendHalves,
	"mqtt-passwords": guessPasswords, "mqtt-silent": staySilent, "mqtt-readers": neverRead, "mqtt-wills": leaveWills,
}

// gateway is a weir-edge that is attacked.
type gateway struct {
	*harness.Process
	dir  string
	args []string
}

func startGateway(t *testing.T, args ...string) *gateway {
	t.Helper()
	g := &gateway{dir: t.TempDir(), args: args}
	g.start(t)
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", g.Tail(40))
		}
	})
	return g
}

func (g *gateway) start(t *testing.T) {
	t.Helper()
	args := append([]string{"--data", filepath.Join(g.dir, "edge"), "--mqtt", "127.0.0.1:0", "--http", "off"}, g.args...)
	p, err := harness.Start(g.dir, "edge", "weir-edge", args...)
	if err != nil {
		t.Fatal(err)
	}
	g.Process = p
}

// restart kills the gateway and starts it again.
func (g *gateway) restart(t *testing.T) {
	t.Helper()
	g.Kill()
	g.start(t)
}

func (g *gateway) addr() string { return g.Addr["mqtt"] }

// lines is how many lines of the log have the text.
func (g *gateway) lines(t *testing.T, text string) int {
	t.Helper()
	body, err := os.ReadFile(g.Log)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(body)) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// stateBytes is the size of the file with what is remembered of devices.
func (g *gateway) stateBytes(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(g.dir, "edge", "sessions"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// victim is a device that was there before the attack.
func victim(t *testing.T, g *gateway, l login) *device {
	t.Helper()
	d, err := connectDevice(g.addr(), "127.0.0.1", l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.nc.Close() })
	return d
}

func (d *device) roundTrip(i int) error {
	return d.publish("victim/reading", strings.Repeat("v", 100), uint16(i+1))
}

// arrives is the round trip of a device that comes anew each time.
func arrives(g *gateway, l login) func(int) error {
	return func(i int) error {
		one := l
		one.id = fmt.Sprintf("%s%d", l.id, i)
		d, err := connectDevice(g.addr(), "127.0.0.1", one)
		if err != nil {
			return err
		}
		defer d.nc.Close()
		_, err = d.nc.Write([]byte{0xe0, 0})
		return err
	}
}

// TestKeptSessions: as many sessions as anybody likes to leave behind keep no
// new client out, not after a restart either.
func TestKeptSessions(t *testing.T) {
	g := startGateway(t)
	d := victim(t, g, login{id: "victim", kept: true})
	calm := measure(t, d.roundTrip)
	calmArrivals := measure(t, arrives(g, login{id: "early"}))
	a := attack(t, "mqtt-sessions", g.addr())
	a.reached(t, "sessions", 500)
	compare(t, "PUBLISH", calm, measure(t, d.roundTrip))
	compareArrivals(t, "CONNECT", calmArrivals, measure(t, arrives(g, login{id: "newcomer"})))
	// More than there is place for, at whatever speed.
	crowd := 12_000
	if soak() {
		crowd = 25_000
	}
	a.reached(t, "sessions", crowd)
	a.stop()
	bounded(t, g.Pid(), gatewayMemory)
	if n := g.lines(t, "--mqtt-sessions or --mqtt-state is used up"); n != 1 {
		t.Errorf("%d lines say that sessions give way", n)
	}
	g.restart(t)
	for _, kept := range []bool{false, true} {
		newcomer, err := connectDevice(g.addr(), "127.0.0.1", login{id: fmt.Sprint("after", kept), kept: kept})
		if err != nil {
			t.Fatal(err)
		}
		if err := newcomer.roundTrip(0); err != nil {
			t.Error(err)
		}
		newcomer.nc.Close()
	}
	bounded(t, g.Pid(), gatewayMemory)
}

// compareArrivals is compare for devices that come during an attack: whatever
// it costs them, it is less than a second.
func compareArrivals(t *testing.T, what string, calm, storm figures) {
	t.Helper()
	t.Logf("%s without attack: %v", what, calm)
	t.Logf("%s under attack:   %v", what, storm)
	if soak() && storm.most > time.Second {
		t.Errorf("%s takes %v", what, storm.most)
	}
}

func keepSessions(t *tally, args []string) {
	for worker := range 32 {
		go func() {
			for i := 0; ; i++ {
				d, err := connectDevice(args[0], attackerHost, login{id: fmt.Sprintf("kept-%d-%d-%d", os.Getpid(), worker, i), kept: true})
				if err != nil {
					t.add("refused", 1)
					continue
				}
				t.add("sessions", 1)
				d.nc.Close()
			}
		}()
	}
}

// TestLongFilters: subscriptions take a bounded part of memory and of the
// disk, whoever makes them, and after a restart too.
func TestLongFilters(t *testing.T) {
	g := startGateway(t)
	d := victim(t, g, login{id: "victim"})
	calm := measure(t, d.roundTrip)
	a := attack(t, "mqtt-filters", g.addr())
	a.reached(t, "refused", 100)
	compare(t, "PUBLISH", calm, measure(t, d.roundTrip))
	a.reached(t, "refused", 1024) // filters of one client, or more
	a.stop()
	newcomer := victim(t, g, login{id: "newcomer", kept: true})
	if codes, err := newcomer.subscribe("a/b/c", "d/+"); err != nil || string(codes) != "\x01\x01" {
		t.Errorf("a small client gets %x, %v", codes, err)
	}
	bounded(t, g.Pid(), gatewayMemory)
	g.restart(t)
	if n := g.stateBytes(t); n > 2*16<<20 {
		t.Errorf("%d bytes of state", n)
	}
	bounded(t, g.Pid(), gatewayMemory)
}

func subscribeLong(t *tally, args []string) {
	for client := 0; ; client++ {
		d, err := connectDevice(args[0], attackerHost, login{id: fmt.Sprint("long", client), kept: true})
		if err != nil {
			t.add("failed", 1)
			continue
		}
		for i := range 1024 {
			codes, err := d.subscribe(fmt.Sprintf("%04d/%s", i, strings.Repeat("f", 60_000)))
			if err != nil {
				t.add("closed", 1) // not for a filter
				break
			}
			if codes[0] == 0x80 {
				t.add("refused", 1)
			} else {
				t.add("granted", 1)
			}
		}
		d.nc.Close()
	}
}

// TestHalfPackets: who announces much and sends half of it holds little, and
// not for long.
func TestHalfPackets(t *testing.T) {
	g := startGateway(t, "--mqtt-packet-timeout", "2s", "--mqtt-packet-rate", "100000")
	d := victim(t, g, login{id: "victim"})
	calm := measure(t, d.roundTrip)
	a := attack(t, "mqtt-halves", g.addr())
	a.reached(t, "begun", 300)
	compare(t, "PUBLISH", calm, measure(t, d.roundTrip))
	if err := d.publish("victim/picture", strings.Repeat("v", 800_000), 1); err != nil {
		t.Errorf("a large message: %v", err)
	}
	a.reached(t, "closed", 3)
	a.stop()
	bounded(t, g.Pid(), gatewayMemory)
}

func sendHalves(t *tally, args []string) {
	half := append(header(0x30, 900_000), make([]byte, 450_000)...)
	copy(half[4:], text("half"))
	for i := range 300 {
		go func() {
			for {
				d, err := connectDevice(args[0], attackerHost, login{id: fmt.Sprint("half", i)})
				if err != nil {
					t.add("failed", 1)
					time.Sleep(100 * time.Millisecond)
					continue
				}
				t.add("begun", 1)
				d.nc.Write(half) //nolint:errcheck // it may be cut off
				d.nc.SetReadDeadline(time.Time{})
				_, _ = io.Copy(io.Discard, d.r)
				t.add("closed", 1)
				d.nc.Close()
			}
		}()
	}
}

// userFile has a user "device" whose password is "right". A check takes a
// Raspberry Pi Zero some seconds, this machine a part of one.
const userFile = "device:$2a$11$A2BgUEfrB0rHWfbO2RsNfujd2iMXPG/vKPbxmqGKG9M4MjiCWRE4i\n"

// TestWrongPasswords: those who guess passwords delay neither a device whose
// password is known, nor another one that comes from elsewhere.
func TestWrongPasswords(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte(userFile), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, "--mqtt-users", users)
	l := login{id: "victim", user: "device", password: "right"}
	d := victim(t, g, l)
	calm := measure(t, d.roundTrip)
	l.id = "again"
	calmArrivals := measure(t, arrives(g, l))
	a := attack(t, "mqtt-passwords", g.addr())
	a.reached(t, "begun", 100)
	compare(t, "PUBLISH", calm, measure(t, d.roundTrip))
	compareArrivals(t, "CONNECT with a known password", calmArrivals, measure(t, arrives(g, l)))
	if n := a.count("wrong") + a.count("busy"); n == 0 {
		t.Error("no password was refused")
	}
	a.stop()
	if n := g.lines(t, "login refused"); n > 20 {
		t.Errorf("%d lines", n)
	}
	bounded(t, g.Pid(), gatewayMemory)
}

func guessPasswords(t *tally, args []string) {
	for i := range 100 {
		go func() {
			for n := 0; ; n++ {
				t.add("begun", 1)
				d, err := connectDevice(args[0], attackerHost, login{id: fmt.Sprint("guess", i), user: "device", password: fmt.Sprint(i, n)})
				switch {
				case err == nil:
					t.add("let in", 1)
					d.nc.Close()
				case errors.Is(err, errRefused) && strings.HasSuffix(err.Error(), "0004"):
					t.add("wrong", 1)
				default:
					t.add("busy", 1)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}
}

// TestSilentConnections: those who connect and say nothing keep nobody out.
func TestSilentConnections(t *testing.T) {
	g := startGateway(t)
	d := victim(t, g, login{id: "victim"})
	calm := measure(t, d.roundTrip)
	calmArrivals := measure(t, arrives(g, login{id: "early"}))
	a := attack(t, "mqtt-silent", g.addr())
	a.reached(t, "opened", 2000)
	compare(t, "PUBLISH", calm, measure(t, d.roundTrip))
	compareArrivals(t, "CONNECT", calmArrivals, measure(t, arrives(g, login{id: "late"})))
	a.stop()
	if n := g.lines(t, "level=WARN"); n > 20 {
		t.Errorf("%d lines", n)
	}
	bounded(t, g.Pid(), gatewayMemory)
}

// stayLong is how long a silent connection is held open.
const stayLong = 20 * time.Second

func staySilent(t *tally, args []string) {
	for range time.Tick(time.Second / 1000) {
		go func() {
			d, err := dialDevice(args[0], attackerHost)
			if err != nil {
				t.add("failed", 1)
				return
			}
			t.add("opened", 1)
			d.nc.SetReadDeadline(time.Now().Add(stayLong))
			_, _ = d.r.ReadByte()
			d.nc.Close()
		}()
	}
}

// TestStuckReaders: subscribers that read nothing take a bounded part of the
// memory, and one that reads gets everything.
func TestStuckReaders(t *testing.T) {
	g := startGateway(t)
	d := victim(t, g, login{id: "victim"})
	calm := measure(t, d.roundTrip)
	reader := victim(t, g, login{id: "reader"})
	if _, err := reader.subscribe("victim/#"); err != nil {
		t.Fatal(err)
	}
	trips, _ := round()
	read := make(chan error, 1)
	go func() {
		for range trips {
			body, err := reader.expect(0x30)
			if err != nil {
				read <- err
				return
			}
			id := body[2+len("victim/reading"):][:2]
			if _, err := reader.nc.Write(packet(0x40, id)); err != nil {
				read <- err
				return
			}
		}
		read <- nil
	}()
	a := attack(t, "mqtt-readers", g.addr())
	a.reached(t, "subscribed", 300)
	a.reached(t, "published", 12)
	compare(t, "PUBLISH", calm, measure(t, d.roundTrip))
	if err := <-read; err != nil {
		t.Errorf("a reader: %v", err)
	}
	a.stop()
	bounded(t, g.Pid(), gatewayMemory)
}

func neverRead(t *tally, args []string) {
	for i := range 300 {
		go func() {
			for {
				d, err := connectDevice(args[0], attackerHost, login{id: fmt.Sprint("stuck", i)})
				if err != nil {
					t.add("failed", 1)
					time.Sleep(100 * time.Millisecond)
					continue
				}
				d.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
				if _, err := d.subscribe("flood"); err == nil {
					t.add("subscribed", 1)
				}
				time.Sleep(stayLong)
				d.nc.Close()
			}
		}()
	}
	load := strings.Repeat("f", 900_000)
	for { // when its connection gives way to the others', it comes again
		d, err := connectDevice(args[0], attackerHost, login{id: "flood"})
		for err == nil {
			if err = d.publish("flood", load, 1); err == nil {
				t.add("published", 1)
			}
			time.Sleep(time.Second / 2)
		}
		t.add("failed", 1)
		if d != nil {
			d.nc.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestLargeWills: the wills of those who are connected are a part of what is
// remembered of devices.
func TestLargeWills(t *testing.T) {
	g := startGateway(t)
	d := victim(t, g, login{id: "victim"})
	calm := measure(t, d.roundTrip)
	calmArrivals := measure(t, arrives(g, login{id: "early"}))
	a := attack(t, "mqtt-wills", g.addr())
	a.reached(t, "refused", 500)
	compare(t, "PUBLISH", calm, measure(t, d.roundTrip))
	compareArrivals(t, "CONNECT", calmArrivals, measure(t, arrives(g, login{id: "newcomer"})))
	a.stop()
	bounded(t, g.Pid(), gatewayMemory)
}

func leaveWills(t *tally, args []string) {
	held := make(map[int]*device) // open, until this process ends
	for i := 0; ; i++ {
		d, err := dialDevice(args[0], attackerHost)
		if err != nil {
			t.add("failed", 1)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		head := append(text("MQTT"), 4, 0x06) // clean, with a will
		will := packet(0x10, head, number(600), text(fmt.Sprint("will", i)), text("wills"), text(strings.Repeat("w", 60_000)))
		if _, err := d.nc.Write(will); err != nil {
			t.add("failed", 1)
			continue
		}
		if body, err := d.expect(0x20); err != nil || body[1] != 0 {
			t.add("refused", 1)
			d.nc.Close()
			time.Sleep(10 * time.Millisecond)
			continue
		}
		t.add("accepted", 1)
		held[i] = d
	}
}

// TestTwins: two devices with one client id are named once, with their
// addresses, however long they go on.
func TestTwins(t *testing.T) {
	g := startGateway(t)
	var addrs []string
	for range 10 {
		for _, from := range []string{"127.0.0.1", attackerHost} {
			d, err := connectDevice(g.addr(), from, login{id: "twin"})
			if err != nil {
				t.Fatal(err)
			}
			defer d.nc.Close()
			addrs = append(addrs, d.nc.LocalAddr().String())
		}
	}
	if n := g.lines(t, "client=twin address="+addrs[2]+" other="+addrs[1]); n != 1 {
		t.Errorf("%d lines name both", n)
	}
	if n := g.lines(t, "client=twin"); n != 1 {
		t.Errorf("%d lines name the client", n)
	}
}
