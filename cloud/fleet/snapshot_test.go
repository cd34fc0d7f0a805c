package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine"
)

func encoded(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return body
}

// randomEntry is one that a Fleet may write.
func randomEntry(random *rand.Rand) (uint16, []byte) {
	hash := bytes.Repeat([]byte{byte(random.IntN(4))}, 32)
	id := fmt.Sprint("gw-", random.IntN(6))
	at := time.Unix(random.Int64N(1<<31), random.Int64N(1e9)).In(time.FixedZone("", 3600*random.IntN(3)))
	switch n := random.IntN(13); {
	case n == 12:
		c := nodeChanged{Node: Node{Name: fmt.Sprint("node ", random.IntN(3)), Revoked: random.IntN(2) == 0, Since: at}}
		if random.IntN(2) == 0 {
			c.Joined, c.Token = at, hash
		}
		return kindNode, encoded(c)
	case n >= 10:
		c := contacts{Saved: at.UnixMilli(), Gateways: []contact{{ID: id, Same: n == 11, Contact: Contact{At: at.UnixMilli() - 5}}}}
		if random.IntN(2) == 0 {
			c.Gateways[0].Contact = Contact{At: 3, Address: "192.0.2.1:5", Software: "weir-edge <1>", Records: 7, Bytes: 1 << 60, Oldest: -1, Lost: 2}
		}
		return kindContacts, encoded(c)
	case n < 2:
		t := token{Hash: hash, Expires: at, Uses: 1 + random.IntN(5)}
		if random.IntN(2) == 0 {
			t.Gateways = []string{"gw-1", "gw-<&>"}
		}
		if random.IntN(2) == 0 {
			t.Topics = []string{"pumps.*"}
		}
		return kindToken, encoded(t)
	case n < 7:
		j := joined{Gateway: Gateway{ID: id, Key: []byte{byte(n), 2}, Joined: at, Expires: at.Add(time.Hour)}}
		if random.IntN(2) == 0 {
			j.Token = hash
		}
		return kindJoined, encoded(j)
	case n < 8:
		return kindReset, []byte(id)
	case n < 9:
		return kindGrants, encoded(grants{id, [][]string{nil, {"a", "b*"}}[random.IntN(2)], [][]string{nil, {"c"}}[random.IntN(2)]})
	default:
		return kindRevoked, []byte(id)
	}
}

// A fleet that was restored is the one that applied everything, at each place of
// the log and afterwards.
func TestSnapshot(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 3))
		f, fork := New(Options{}), New(Options{})
		for range 150 {
			kind, body := randomEntry(random)
			if err := errors.Join(f.Apply(kind, body), fork.Apply(kind, body)); err != nil {
				t.Fatal(err)
			}
			body = f.Snapshot()
			if !bytes.Equal(body, fork.Snapshot()) {
				t.Fatalf("seed %d: the same entries make another state:\n%s\n%s", seed, body, fork.Snapshot())
			}
			if random.IntN(20) > 0 {
				continue
			}
			if random.IntN(2) == 0 {
				fork = New(Options{}) // else over what it holds already
			}
			if err := fork.Restore(body); err != nil || !bytes.Equal(fork.Snapshot(), body) {
				t.Fatalf("seed %d: restore: %v", seed, err)
			}
		}
		if len(f.tokens) == 0 || len(f.Gateways()) != len(fork.Gateways()) || !reflect.DeepEqual(f.Gateways()[0].Key, fork.Gateways()[0].Key) {
			t.Errorf("seed %d: %+v, %+v", seed, f.Gateways(), fork.Gateways())
		}
	}
}

const golden = `{"version":1,"tokens":[{"hash":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=","expires":"2026-01-02T03:04:05Z","uses":-1,"gateways":null},` +
	`{"hash":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=","expires":"2026-01-02T03:04:05.5+01:00","uses":3,"gateways":[]}],` +
	`"gateways":[{"id":"a","key":null,"joined":"0001-01-01T00:00:00Z","expires":"2026-01-02T03:04:05Z","revoked":false},` +
	`{"id":"b","key":"AQI=","joined":"2026-01-02T03:04:05Z","expires":"2026-01-02T03:04:05Z","revoked":true}]}`

// goldenGrants has what format level 2 adds.
const goldenGrants = `{"version":1,"tokens":[{"hash":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=","expires":"2026-01-02T03:04:05Z","uses":1,"topics":["a","b*"],"gateways":null},` +
	`{"hash":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=","expires":"2026-01-02T03:04:05Z","uses":0,"node":"c","gateways":null}],` +
	`"gateways":[{"id":"a","key":null,"joined":"0001-01-01T00:00:00Z","expires":"2026-01-02T03:04:05Z","revoked":false,"allow":["a","b*"]},` +
	`{"id":"b","key":null,"joined":"0001-01-01T00:00:00Z","expires":"2026-01-02T03:04:05Z","revoked":false,"allow":["c"],"deny":["d"],` +
	`"seen":{"at":9,"address":"192.0.2.1:5","software":"e","records":1,"bytes":2,"oldest":3,"lost":4,"saved":8}}],` +
	`"nodes":[{"name":"a","revoked":true,"since":"2026-01-02T03:04:05Z"},{"name":"b","revoked":false,"since":"2026-01-02T03:04:06Z"},` +
	`{"name":"c","revoked":false,"since":"2026-01-02T03:04:07Z","joined":"2026-01-02T03:04:07Z"}]}`

// The bytes at rest do not change by accident. A token that is for no gateway at
// all does not become one for any.
func TestGoldenSnapshot(t *testing.T) {
	f := New(Options{})
	for _, e := range []struct {
		kind uint16
		body string
	}{
		{kindToken, `{"hash":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=","expires":"2026-01-02T03:04:05.500+01:00","uses":3,"gateways":[]}`},
		{kindToken, `{"hash":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=","expires":"2026-01-02T03:04:05Z","uses":0}`},
		{kindJoined, `{"id":"b","key":"AQI=","joined":"2026-01-02T03:04:05Z","expires":"2026-01-02T03:04:05Z","token":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="}`},
		{kindJoined, `{"id":"a","expires":"2026-01-02T03:04:05Z"}`},
		{kindRevoked, "b"},
	} {
		if err := f.Apply(e.kind, []byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(f.Snapshot()); got != golden {
		t.Errorf("\n got %s\nwant %s", got, golden)
	}
	level2 := New(Options{})
	for _, e := range []struct {
		kind uint16
		body string
	}{
		{kindToken, `{"hash":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=","expires":"2026-01-02T03:04:05Z","uses":2,"topics":["a","b*"]}`},
		{kindJoined, `{"id":"a","expires":"2026-01-02T03:04:05Z","token":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="}`},
		{kindJoined, `{"id":"b","expires":"2026-01-02T03:04:05Z"}`},
		{114, `{"id":"b","allow":["c"],"deny":["d"]}`},
		{114, `{"id":"nobody","allow":["c"]}`},
		{115, `{"saved":6,"gateways":[{"id":"b","at":5,"address":"192.0.2.1:5","software":"e","records":1,"bytes":2,"oldest":3,"lost":4},{"id":"nobody","at":1}]}`},
		{115, `{"saved":8,"gateways":[{"id":"b","same":true,"at":9}]}`},
		{116, `{"name":"b","revoked":true,"since":"2026-01-02T03:04:06Z"}`},
		{116, `{"name":"a","revoked":true,"since":"2026-01-02T03:04:05Z"}`},
		{116, `{"name":"b","since":"2026-01-02T03:04:06Z"}`},
		{110, `{"hash":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=","expires":"2026-01-02T03:04:05Z","uses":1,"node":"c"}`},
		{116, `{"name":"c","since":"2026-01-02T03:04:07Z","joined":"2026-01-02T03:04:07Z","token":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="}`},
	} {
		if err := level2.Apply(e.kind, []byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(level2.Snapshot()); got != goldenGrants {
		t.Errorf("\n got %s\nwant %s", got, goldenGrants)
	}
	if err := level2.Restore([]byte(goldenGrants)); err != nil {
		t.Error(err)
	}
	next := New(Options{})
	if err := next.Restore(f.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if next.tokens[[32]byte(bytes.Repeat([]byte{3}, 32))].Gateways == nil || next.tokens[[32]byte(bytes.Repeat([]byte{2}, 32))].Gateways != nil {
		t.Error("tokens are for others than before")
	}
	if err := next.Restore(nil); err != nil || len(next.tokens)+len(next.gateways) != 0 {
		t.Errorf("%v: %s", err, next.Snapshot())
	}
}

func TestRestoreRefuses(t *testing.T) {
	f := New(Options{})
	for n := 1; n < len(golden); n++ {
		if err := f.Restore([]byte(golden)[:n]); !errors.Is(err, machine.ErrShape) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for i := range golden {
		for bit := range 8 {
			damaged := []byte(golden)
			damaged[i] ^= 1 << bit
			strict(t, damaged)
		}
	}
	if err := f.Restore([]byte(golden)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]string{
		"version": {`"version":1`, `"version":2`}, "unknown field": {`"version":1`, `"version":1,"x":0`}, "space": {`,`, `, `},
		"order": {`"id":"a"`, `"id":"c"`}, "twice": {`"id":"a"`, `"id":"b"`}, "no id": {`"id":"a"`, `"id":""`},
		"no gateway": {`"gateways":[{"id":"a"`, `"gateways":[null,{"id":"a"`}, "no tokens": {`"tokens":[`, `"tokens":null,"tokens":[`},
		"hash": {`"AgIC`, `"`}, "time": {`05Z`, `05+00:00`}, "name": {`"uses"`, `"Uses"`},
	} {
		if err := f.Restore(bytes.Replace([]byte(golden), []byte(c[0]), []byte(c[1]), 1)); !errors.Is(err, machine.ErrShape) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if string(f.Snapshot()) != golden {
		t.Error("a refused snapshot changed the state")
	}
}

// strict fails if a snapshot is restored that is not canonical.
func strict(t *testing.T, body []byte) {
	t.Helper()
	f := New(Options{})
	if err := f.Restore(body); err == nil && len(body) > 0 && !bytes.Equal(f.Snapshot(), body) {
		t.Fatalf("%s is restored and becomes %s", body, f.Snapshot())
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(goldenGrants))
	f.Add(New(Options{}).Snapshot())
	f.Fuzz(func(t *testing.T, body []byte) { strict(t, body) })
}

// Whatever Apply takes, Snapshot can encode, and Restore takes it back.
func FuzzApply(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 8 {
		kind, body := randomEntry(random)
		f.Add(kind, body)
	}
	f.Add(kindToken, []byte(`{"hash":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=","expires":"9999-12-31T23:59:59-23:59"}`))
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		fleet, next := New(Options{}), New(Options{})
		if fleet.Apply(kind, slices.Clone(body)) != nil {
			return
		}
		snapshot := fleet.Snapshot()
		if err := next.Restore(snapshot); err != nil || !bytes.Equal(next.Snapshot(), snapshot) {
			t.Fatalf("%s: %v", snapshot, err)
		}
	})
}
