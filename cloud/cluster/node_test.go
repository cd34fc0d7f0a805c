package cluster

import (
	"encoding/json"
	"reflect"
	"testing"
)

// older is a node as versions before AddressesLevel wrote and read it.
type older struct {
	ID    int32  `json:"id"`
	Name  string `json:"name"`
	Kafka string `json:"kafka,omitempty"`
	Sync  string `json:"sync,omitempty"`
	HTTP  string `json:"http,omitempty"`
	Peer  string `json:"peer,omitempty"`
	Boot  string `json:"boot,omitempty"`
	Host  string `json:"host,omitempty"`

	Listeners map[string]string `json:"kafka_listeners,omitempty"`
	Takeovers []Takeover        `json:"takeovers,omitempty"`
}

// The claims of all versions, and the nodes in them.
func claims() map[string]struct {
	old  older
	node Node
} {
	past := []Takeover{{Epoch: 3, At: 1_700_000_000, Refused: true}}
	return map[string]struct {
		old  older
		node Node
	}{
		"all": {older{ID: 7, Name: "a", Kafka: "in:1", Sync: "s:2", HTTP: "h:3", Peer: "p:4", Boot: "b", Host: "m",
			Listeners: map[string]string{"in": "in:1", "out": "out:5"}, Takeovers: past},
			Node{ID: 7, Name: "a", Boot: "b", Host: "m", Takeovers: past, Addresses: Addresses{
				Kafka: {"": "in:1", "in": "in:1", "out": "out:5"}, Sync: {"": "s:2"}, HTTP: {"": "h:3"}, Peer: {"": "p:4"}}}},
		"one listener": {older{Name: "a", Kafka: "k:1", Listeners: map[string]string{"default": "k:1"}},
			Node{Name: "a", Addresses: Addresses{Kafka: {"": "k:1", "default": "k:1"}}}},
		"no doors": {older{Name: "a"}, Node{Name: "a", Addresses: Addresses{}}},
	}
}

// TestInfo: nodes of former versions and of this one read each other's claims at level
// 1, where the bytes are the same, and a claim of level 2 says as much.
func TestInfo(t *testing.T) {
	for name, c := range claims() {
		old, err := json.Marshal(c.old)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := c.node.Info(1); err != nil || string(info) != string(old) {
			t.Errorf("%s: %s, %v\nwant %s", name, info, err, old)
		}
		if n, err := ReadInfo(old); err != nil || !reflect.DeepEqual(n, c.node) {
			t.Errorf("%s: of a former version it is %+v, %v\nwant %+v", name, n, err, c.node)
		}
		info, err := c.node.Info(2)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := ReadInfo(info); err != nil || !reflect.DeepEqual(n, c.node) {
			t.Errorf("%s: of level 2 it is %+v, %v\nwant %+v", name, n, err, c.node)
		}
	}
	if n, err := ReadInfo([]byte(`{"name":"a","sync":"s:2","id":"x"}`)); err == nil || n.Name != "a" || n.Address(Sync) != "s:2" {
		t.Errorf("what can be read of a bad claim: %+v, %v", n, err)
	}
}

const goldenInfo = `{"id":7,"name":"a","boot":"b","host":"m","takeovers":[{"epoch":3,"at":1700000000,"refused":true}],` +
	`"addresses":{"http":{"":"h:3"},"kafka":{"":"in:1","in":"in:1","out":"out:5"},"peer":{"":"p:4"},"sync":{"":"s:2"}}}`

// TestGoldenInfo: the bytes at rest do not change by accident.
func TestGoldenInfo(t *testing.T) {
	if info, err := claims()["all"].node.Info(2); err != nil || string(info) != goldenInfo {
		t.Errorf("\n got %s, %v\nwant %s", info, err, goldenInfo)
	}
}

// TestInfoOfAnotherDoor: at level 1 a door that former versions do not know is where
// they pass it over, and the others are where they look.
func TestInfoOfAnotherDoor(t *testing.T) {
	n := Node{Name: "a", Addresses: Addresses{Sync: {"": "s:2"}, "amqp": {"": "q:6", "tls": "q:7"}}}
	info, err := n.Info(1)
	if err != nil {
		t.Fatal(err)
	}
	var old older
	if err := json.Unmarshal(info, &old); err != nil || old.Sync != "s:2" {
		t.Errorf("a former version reads %+v, %v", old, err)
	}
	if again, err := ReadInfo(info); err != nil || !reflect.DeepEqual(again, n) {
		t.Errorf("%+v, %v; want %+v", again, err, n)
	}
}

// TestListenerAddress: a client is sent to the listener that has the name of the one
// by which it came.
func TestListenerAddress(t *testing.T) {
	named := Node{Addresses: Addresses{Kafka: {"": "in:1", "in": "in:1", "out": "out:5"}}}
	for listener, want := range map[string]string{"in": "in:1", "out": "out:5", "none": ""} {
		if got := named.ListenerAddress(Kafka, listener); got != want {
			t.Errorf("listener %s is %q, want %q", listener, got, want)
		}
	}
	unnamed := Node{Addresses: Addresses{Kafka: {"": "a:1"}}}
	if unnamed.ListenerAddress(Kafka, "any") != "a:1" || unnamed.ListenerAddress(Sync, "") != "" || unnamed.Address(Sync) != "" {
		t.Error("a door without names of listeners")
	}
}
