package page

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/console"
)

//go:embed *.html
var files embed.FS

//go:embed page.js
var script []byte

// refreshSeconds is how often an open page is fetched again.
const refreshSeconds = 5

// pages are those of one admin port.
type pages struct {
	guard *admin.Guard
	now   func() time.Time
}

// frame is what every page has.
type frame struct {
	Title   string
	Section string // of the menu
	Refresh int    // seconds; 0: never
	Caller  admin.Caller
	Node    console.Node // that renders the page
	Problem string       // why the page is empty
	Now     time.Time
	Main    any // what the page is about
}

// view gets what a page shows.
type view func(r *http.Request) (any, error)

// Register makes the pages of an admin port whose console is registered with g.
func Register(g *admin.Guard) {
	p := &pages{guard: g, now: time.Now}
	g.Handle(admin.Open, "GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(script) // an error means that the browser is gone
	})
	g.SetFront(admin.Read, p.page("overview", "Overview", p.overview))
	for _, one := range []struct {
		need        admin.Role
		path, title string
		view        view
	}{
		{admin.Read, "topics", "Topics", p.topics},
		{admin.Read, "topic", "Topic", p.topic},
		{admin.Operate, "records", "Records", p.records},
		{admin.Read, "gateways", "Gateways", p.gateways},
		{admin.Read, "gateway", "Gateway", p.gateway},
		{admin.Read, "groups", "Groups", p.groups},
		{admin.Read, "group", "Group", p.group},
		{admin.Read, "nodes", "Nodes", p.nodes},
		{admin.Read, "errors", "Errors", p.errors},
	} {
		g.HandlePage(one.need, "/"+one.path, p.page(one.path, one.title, one.view))
	}
}

// section returns the entry of the menu that a page belongs to.
func section(name string) string {
	switch name {
	case "topic", "records":
		return "topics"
	case "gateway":
		return "gateways"
	case "group":
		return "groups"
	}
	return name
}

// page returns what serves one page.
func (p *pages) page(name, title string, view view) http.HandlerFunc {
	t := template.Must(template.New("frame.html").Funcs(p.functions()).ParseFS(files, "frame.html", name+".html"))
	return func(w http.ResponseWriter, r *http.Request) {
		f := frame{Title: title, Section: section(name), Caller: admin.CallerOf(r), Now: p.now(), Refresh: refreshSeconds}
		if name == "records" {
			f.Refresh = 0 // records do not change, and a reader may be busy with them
		}
		err := p.get(r, "/v1/node", &f.Node)
		if err == nil {
			f.Main, err = view(r)
		}
		status := http.StatusOK
		if err != nil {
			f.Problem, f.Main, status = err.Error(), nil, statusOf(err)
		}
		var out bytes.Buffer
		if err := t.Execute(&out, f); err != nil {
			http.Error(w, "render the page: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write(out.Bytes()) // an error means that the browser is gone
	}
}

// refusal is an answer of the port that reports an error.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

func statusOf(err error) int {
	if refused, ok := err.(refusal); ok && refused.status >= 400 {
		return refused.status
	}
	return http.StatusInternalServerError
}

// get requests a path of the port on behalf of the page's reader.
func (p *pages) get(r *http.Request, path string, v any) error {
	status, body, err := p.guard.Ask(r, path)
	if err != nil {
		return err
	}
	if status == http.StatusOK {
		if err := json.Unmarshal(body, v); err != nil {
			return fmt.Errorf("decode the answer to %s: %w", path, err)
		}
		return nil
	}
	var e console.Error
	if err := json.Unmarshal(body, &e); err != nil || e.Error == "" {
		return refusal{status, http.StatusText(status)}
	}
	if status == http.StatusMisdirectedRequest {
		// This status would keep the browser from showing the page.
		status = http.StatusServiceUnavailable
		if e.Owner != "" {
			e.Error += ": open the page of the owner, at " + e.Owner
		}
	}
	return refusal{status, e.Error}
}

// link is a path of this port with a query of name and value, one after the other.
func link(path string, pairs ...any) string {
	q := make(url.Values)
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(fmt.Sprint(pairs[i]), fmt.Sprint(pairs[i+1]))
	}
	return path + "?" + q.Encode()
}
