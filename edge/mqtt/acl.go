package mqtt

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// access is what an entry of an ACL allows; denied outranks the others.
type access uint8

const (
	denied  access = 0
	reading access = 1 // messages may be delivered to the client
	writing access = 2 // the client may publish them
)

// aclEntry is one line of an ACL file.
type aclEntry struct {
	filter string // with %c and %u, in a pattern
	access access
}

// ACL says which topics clients may publish to and read. It comes from a file in
// the format of mosquitto's acl_file:
//
//	topic read news/#              before any user: for clients without a user name
//	user ann
//	topic readwrite plant/ann/#    read, write, readwrite (the default) or deny
//	topic deny plant/ann/secret
//	pattern write dev/%u/%c/#      for all clients, with the user name and the client id
//
// A topic that no line allows is denied. A user's lines come before the patterns. Within
// each of the two, lines that deny come first. Topics whose first level begins with $ are
// matched only by filters whose first level does. If there are patterns, clients with + or #
// in their user name or client id are denied what their own lines do not allow. Messages that
// a client may not read are not delivered, whatever it has subscribed to.
type ACL struct {
	anonymous []aclEntry
	users     map[string][]aclEntry
	patterns  []aclEntry
}

// LoadACL reads an ACL file. An error names the line.
func LoadACL(path string) (*ACL, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read --mqtt-acl: %w", err)
	}
	defer f.Close()
	a := &ACL{users: make(map[string][]aclEntry)}
	entries := &a.anonymous
	user := ""
	store := func() { // the lines of the user so far
		if user != "" {
			a.users[user] = *entries
		}
	}
	scanner := bufio.NewScanner(f)
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimRight(scanner.Text(), " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		word, rest := cutWord(line)
		switch word {
		case "user":
			if rest == "" {
				return nil, fmt.Errorf("ACL file %s line %d: user without a name", path, n)
			}
			store()
			user = rest
			own := a.users[user]
			entries = &own
		case "topic", "pattern":
			e, err := parseEntry(rest)
			if err != nil {
				return nil, fmt.Errorf("ACL file %s line %d: %s %w", path, n, word, err)
			}
			if word == "topic" {
				*entries = addEntry(*entries, e)
			} else {
				a.patterns = addEntry(a.patterns, e)
			}
		default:
			return nil, fmt.Errorf("ACL file %s line %d: %q is neither user, topic nor pattern", path, n, word)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read ACL file %s: %w", path, err)
	}
	store()
	return a, nil
}

// cutWord cuts the first word off a line.
func cutWord(line string) (word, rest string) {
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i], strings.TrimLeft(line[i:], " \t")
	}
	return line, ""
}

// parseEntry reads what stands behind topic or pattern: an access and a filter. The
// access may be left out if the filter has no space.
func parseEntry(text string) (aclEntry, error) {
	e := aclEntry{text, reading | writing}
	word, rest := cutWord(text)
	known := map[string]access{"read": reading, "write": writing, "readwrite": reading | writing, "deny": denied}
	if rest != "" {
		a, ok := known[word]
		if !ok {
			return e, fmt.Errorf("access %q is not read, write, readwrite or deny", word)
		}
		e = aclEntry{rest, a}
	}
	switch {
	case e.filter == "":
		return e, errors.New("without a topic")
	case !validFilter(e.filter, len(e.filter)+1):
		return e, fmt.Errorf("%q is not a valid filter: # and + must stand alone in a level, # in the last one", e.filter)
	}
	return e, nil
}

// addEntry adds an entry; those that deny come first.
func addEntry(all []aclEntry, e aclEntry) []aclEntry {
	if e.access == denied {
		return append([]aclEntry{e}, all...)
	}
	return append(all, e)
}

// MayPublish reports whether a client may publish to a topic. A client without a user
// name has the user name "".
func (a *ACL) MayPublish(clientID, username, topic string) bool {
	return a.may(writing, clientID, username, topic)
}

// MayRead reports whether messages of a topic may be delivered to a client.
func (a *ACL) MayRead(clientID, username, topic string) bool {
	return a.may(reading, clientID, username, topic)
}

// MaySubscribe reports whether a client may subscribe to a filter. It allows a filter
// with wildcards if some of its topics may be readable, and one without if its topic is.
func (a *ACL) MaySubscribe(clientID, username, filter string) bool {
	_, topic, _ := shareName(filter)
	return strings.ContainsAny(topic, "+#") || a.MayRead(clientID, username, topic)
}

func (a *ACL) may(want access, clientID, username, topic string) bool {
	own := a.anonymous
	if username != "" {
		own = a.users[username]
	}
	for _, e := range own {
		if FilterMatches(e.filter, topic) {
			if e.access == denied || e.access&want != 0 {
				return e.access != denied
			}
		}
	}
	if len(a.patterns) == 0 || strings.ContainsAny(username, "+#") || strings.ContainsAny(clientID, "+#") {
		return false
	}
	for _, e := range a.patterns {
		if username == "" && strings.Contains(e.filter, "%u") {
			continue
		}
		if FilterMatches(fill(e.filter, clientID, username), topic) {
			if e.access == denied || e.access&want != 0 {
				return e.access != denied
			}
		}
	}
	return false
}

// fill puts the client id and the user name into a pattern.
func fill(pattern, clientID, username string) string {
	if !strings.Contains(pattern, "%") {
		return pattern
	}
	return strings.NewReplacer("%c", clientID, "%u", username).Replace(pattern)
}

// FilterMatches reports whether a filter without $share matches a topic name (§4.7).
func FilterMatches(filter, topic string) bool {
	if dollar(filter) != dollar(topic) {
		return false // [MQTT-4.7.2-1]
	}
	rest, more := topic, true
	for want := range strings.SplitSeq(filter, "/") {
		if want == "#" {
			return true // "a/#" matches "a" as well [MQTT-4.7.1-2]
		}
		if !more {
			return false
		}
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if want != "+" && want != level {
			return false
		}
	}
	return !more
}

// ACLChange counts the lines that one ACL has and another has not.
type ACLChange struct{ Added, Removed int }

// ChangeSince compares an ACL with the one that was in force before it.
func (a *ACL) ChangeSince(old *ACL) (c ACLChange) {
	before, now := old.lines(), a.lines()
	for line, n := range now {
		c.Added += max(0, n-before[line])
	}
	for line, n := range before {
		c.Removed += max(0, n-now[line])
	}
	return c
}

// aclLine is an entry and whom it applies to.
type aclLine struct {
	user string // with "user " in front; "pattern", or "" for clients without a user name
	aclEntry
}

func (a *ACL) lines() map[aclLine]int {
	all := make(map[aclLine]int)
	for _, e := range a.anonymous {
		all[aclLine{"", e}]++
	}
	for _, e := range a.patterns {
		all[aclLine{"pattern", e}]++
	}
	for user, entries := range a.users {
		for _, e := range entries {
			all[aclLine{"user " + user, e}]++
		}
	}
	return all
}
