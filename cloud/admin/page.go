package admin

import (
	"errors"
	"html/template"
	"net/http"
)

// page is the door for browsers: what can be read here, or a form to log in by.
var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Service}}</title>
<h1>{{.Service}}</h1>
{{if .Caller.Name -}}
<p>Logged in as {{.Caller.Name}}, for reading only: weirctl and the Authorization header can change things.</p>
<form method="post" action="/logout"><button>Log out</button></form>
{{- else -}}
<form method="post" action="/login">
<p><label>Admin token <input type="password" name="token" autocomplete="current-password" required autofocus></label> <button>Log in</button></p>
</form>
{{- end}}
<ul>{{range .Links}}<li><a href="{{.}}">{{.}}</a>{{end}}</ul>
`))

func (g *Guard) page(w http.ResponseWriter, r *http.Request) {
	caller, err := g.identify(r)
	if err != nil && !errors.Is(err, errMissing) {
		g.refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	_ = page.Execute(w, struct { // the browser is gone, if this fails
		Service string
		Caller  Caller
		Links   []string
	}{g.o.Service, caller, g.links(caller.Role)})
}
