package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// class is one class of the table.
type class struct {
	name    string
	id      uint16
	methods []method
}

// method is one method of a class.
type method struct {
	class   *class
	name    string
	id      uint16
	sender  string // client, server or both
	sync    bool   // an answer follows
	content bool   // a content header and a body follow
	doc     string
	fields  []field
}

// field is an argument of a method, or a property.
type field struct {
	name string // "-" for a reserved one
	typ  string
	doc  string
}

// types are the types of fields, each with the Go type that holds it.
func types() map[string]string {
	return map[string]string{
		"octet": "uint8", "short": "uint16", "long": "uint32", "longlong": "uint64", "timestamp": "uint64",
		"shortstr": "string", "longstr": "[]byte", "bit": "bool", "table": "Table",
	}
}

// table is what methods.txt says.
type table struct {
	classes    []*class
	properties []field
}

// parse reads methods.txt.
func parse(text string) (*table, error) {
	t := new(table)
	n := 0
	for line := range strings.Lines(text) {
		n++
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		if err := t.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return t, nil
}

func (t *table) line(line string) error {
	words, doc, _ := strings.Cut(line, " : ")
	doc = strings.TrimSpace(doc)
	w := strings.Fields(words)
	switch {
	case strings.HasPrefix(line, "\t"):
		f, err := parseField(w, doc)
		if err != nil {
			return err
		}
		m, err := t.last()
		if err != nil {
			return err
		}
		m.fields = append(m.fields, f)
		return nil
	case w[0] == "class" && len(w) == 3:
		id, err := strconv.ParseUint(w[2], 10, 16)
		t.classes = append(t.classes, &class{name: w[1], id: uint16(id)})
		return err
	case w[0] == "method" && len(w) >= 4:
		return t.method(w[1:], doc)
	case w[0] == "property" && len(w) == 3:
		f, err := parseField(w[1:], doc)
		t.properties = append(t.properties, f)
		return err
	}
	return fmt.Errorf("unknown line %q", strings.TrimSpace(line))
}

// last returns the method that the fields belong to.
func (t *table) last() (*method, error) {
	if len(t.classes) == 0 || len(t.classes[len(t.classes)-1].methods) == 0 {
		return nil, fmt.Errorf("a field before the first method")
	}
	c := t.classes[len(t.classes)-1]
	return &c.methods[len(c.methods)-1], nil
}

func (t *table) method(w []string, doc string) error {
	if len(t.classes) == 0 {
		return fmt.Errorf("a method before the first class")
	}
	c := t.classes[len(t.classes)-1]
	id, err := strconv.ParseUint(w[1], 10, 16)
	if err != nil {
		return err
	}
	m := method{class: c, name: w[0], id: uint16(id), sender: w[2], doc: doc}
	if !slices.Contains([]string{"client", "server", "both"}, m.sender) {
		return fmt.Errorf("unknown sender %q", m.sender)
	}
	for _, flag := range w[3:] {
		switch flag {
		case "sync":
			m.sync = true
		case "content":
			m.content = true
		default:
			return fmt.Errorf("unknown flag %q", flag)
		}
	}
	c.methods = append(c.methods, m)
	return nil
}

func parseField(w []string, doc string) (field, error) {
	if len(w) != 2 {
		return field{}, fmt.Errorf("a field is a name and a type, not %q", w)
	}
	if types()[w[1]] == "" {
		return field{}, fmt.Errorf("unknown type %q", w[1])
	}
	return field{name: w[0], typ: w[1], doc: doc}, nil
}

// camel turns a name of the specification into one of Go.
func camel(name string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		if word == "id" {
			word = "ID"
		}
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// typeName is the name of the struct of m.
func (m *method) typeName() string { return camel(m.class.name) + camel(m.name) }

// wireName is the name of m in the specification's own notation.
func (m *method) wireName() string { return m.class.name + "." + m.name }
