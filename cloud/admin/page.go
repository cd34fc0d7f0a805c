package admin

import (
	_ "embed"
	"errors"
	"html/template"
	"net/http"
)

// StylePath is the path of the style sheet of the port's pages. It needs no credential.
const StylePath = "/style.css"

//go:embed style.css
var style []byte

func serveStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(style) // an error means that the browser is gone
}

// page is what a browser sees first: a login form, or the list of readable pages if
// there is no front page.
var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{.Service}}</title>
<link rel="stylesheet" href="/style.css"></head>
<body class="door"><main>
<h1>{{.Service}}</h1>
{{if .Error}}<p class="problem" role="alert">{{.Error}}</p>{{end}}
{{if .Caller.Name -}}
<p>Logged in as {{.Caller.Name}}, for reading only: weirctl and the Authorization header can change things.</p>
<form method="post" action="/logout"><button>Log out</button></form>
{{- else -}}
<form method="post" action="/login">
<input type="hidden" name="next" value="{{.Next}}">
<p><label>Admin token <input type="password" name="token" autocomplete="current-password" required autofocus></label> <button>Log in</button></p>
</form>
<p class="quiet">The token is in the file admin-token of the data directory, or was printed by weirctl admin add.</p>
{{- end}}
{{if .Links}}<ul>{{range .Links}}<li><a href="{{.}}">{{.}}</a></li>{{end}}</ul>{{end}}
</main></body></html>
`))

// pageHandler is a page for browsers.
type pageHandler struct {
	need   Role
	handle http.HandlerFunc
}

// SetFront makes handle the page at "/". Callers without the role get a login form.
func (g *Guard) SetFront(need Role, handle http.HandlerFunc) { g.front = &pageHandler{need, handle} }

// HandlePage registers a page for browsers. A refusal is a page too, with a login form
// if a credential is missing.
func (g *Guard) HandlePage(need Role, path string, handle http.HandlerFunc) {
	p := pageHandler{need, handle}
	g.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { g.servePage(w, r, p, http.StatusUnauthorized) })
}

func (g *Guard) frontPage(w http.ResponseWriter, r *http.Request) {
	if g.front != nil {
		g.servePage(w, r, *g.front, http.StatusOK)
		return
	}
	caller, err := g.identify(r)
	if err != nil && !errors.Is(err, errMissing) {
		g.refusePage(w, r, err, "/")
		return
	}
	g.writePage(w, http.StatusOK, pageData{Caller: caller, Links: g.links(caller.Role), Next: "/"})
}

// servePage shows a page to callers with its role. Others get a login form, with the
// given status if only a credential is missing.
func (g *Guard) servePage(w http.ResponseWriter, r *http.Request, p pageHandler, stranger int) {
	caller, err := g.admit(r, p.need)
	switch {
	case err == nil:
		PageHeaders(w)
		p.handle(w, withCaller(r, caller))
	case errors.Is(err, errMissing):
		g.writePage(w, stranger, pageData{Next: localPage(r.URL.RequestURI())})
	default:
		g.refusePage(w, r, err, localPage(r.URL.RequestURI()))
	}
}

// refusePage shows a browser why it was refused.
func (g *Guard) refusePage(w http.ResponseWriter, r *http.Request, err error, next string) {
	var role roleError
	d, status := pageData{Error: err.Error(), Next: next}, http.StatusUnauthorized
	switch {
	case errors.Is(err, ErrElsewhere):
		status = http.StatusServiceUnavailable
	case errors.As(err, &role):
		d.Caller, status = role.caller, http.StatusForbidden
	case errors.Is(err, ErrUnknown) && g.punish(w, r):
		d.Error, status = tooMany(w), http.StatusTooManyRequests
	}
	g.writePage(w, status, d)
}

// pageData is the data of page.
type pageData struct {
	Service, Error, Next string
	Caller               Caller
	Links                []string
}

func (g *Guard) writePage(w http.ResponseWriter, status int, d pageData) {
	d.Service = g.o.Service
	PageHeaders(w)
	w.WriteHeader(status)
	_ = page.Execute(w, d) // an error means that the browser is gone
}

// PageHeaders sets the headers of a page. They forbid the browser everything that the
// pages of this port do not need: code, styles and data from elsewhere, code and styles
// inside the page, and being part of another page.
func PageHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
}
