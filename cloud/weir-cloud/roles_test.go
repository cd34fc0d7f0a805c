package main

import (
	"io"
	"strings"
	"testing"
)

// TestRoles: a node without a door has no listener for clients, and one that a flag, a file
// or a variable asks for is an error with the name of the flag.
func TestRoles(t *testing.T) {
	for _, c := range []struct{ flags, roles, wrong string }{
		{"", "door,meta,log", ""},
		{"--roles log,door", "door,log", ""},
		{"--roles log --roles meta", "meta,log", ""},
		{"--roles log --kafka off --sync off", "log", ""},
		{"--roles door --kafka 127.0.0.1:9092 --sync :7400", "door", ""},
		{"--roles lgo", "", "did you mean log?"},
		{"--roles store", "", "unknown role \"store\": there are door, meta, log"},
		{"--roles=", "", "--roles: no role"},
		{"--roles log --kafka 127.0.0.1:9092", "", "--kafka opens a listener"},
		{"--roles meta --amqp 127.0.0.1:5672", "", "--amqp opens a listener"},
		{"--roles meta,log --management 127.0.0.1:15672", "", "--management opens a listener"},
		{"--roles log --sync :7400", "", "--sync opens a port"},
		{"--roles door --peer off", "", "--peer off: a node with the roles door"},
		{"--roles meta,log --peer off", "meta,log", ""},
	} {
		s, err := parse(strings.Fields(c.flags), nil, io.Discard)
		switch {
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: %v", c.flags, err)
		case c.wrong != "":
		case err != nil || s.roles.String() != c.roles:
			t.Errorf("%s: roles %v, %v", c.flags, s.roles, err)
		case !strings.Contains(c.roles, "door"):
			if kafka, err := s.listeners(); s.sync != "off" || len(kafka) > 0 || err != nil {
				t.Errorf("%s: --sync %s, --kafka %v, %v", c.flags, s.sync, kafka, err)
			}
		}
	}
	for _, variable := range []string{"WEIR_CLOUD_KAFKA=127.0.0.1:9092", "WEIR_CLOUD_SYNC=:7400"} {
		if _, err := parse([]string{"--roles", "log"}, []string{variable}, io.Discard); err == nil || !strings.Contains(err.Error(), "or add the role door") {
			t.Errorf("%s: %v", variable, err)
		}
	}
}
