package admin

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
)

// maxAsked bounds an answer of Ask, in bytes.
const maxAsked = 64 << 20

// errLong: an answer was longer than Ask accepts.
var errLong = errors.New("the answer is too long")

// Ask makes another request to this port on behalf of the caller of r: a GET of a path
// with a query. It is answered like a request from outside, by the owner if this node
// is a standby.
func (g *Guard) Ask(r *http.Request, target string) (status int, body []byte, err error) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return 0, nil, err
	}
	req := r.Clone(r.Context())
	req.Method, req.URL, req.RequestURI, req.Body, req.ContentLength = http.MethodGet, u, target, http.NoBody, 0
	answer := &memory{header: make(http.Header), most: maxAsked}
	g.mux.ServeHTTP(answer, req)
	return answer.status, answer.body.Bytes(), answer.err
}

// memory is a response that is kept in memory.
type memory struct {
	header http.Header
	status int
	body   bytes.Buffer
	most   int // bytes
	err    error
}

func (m *memory) Header() http.Header { return m.header }

func (m *memory) WriteHeader(status int) {
	if m.status == 0 {
		m.status = status
	}
}

func (m *memory) Write(p []byte) (int, error) {
	m.WriteHeader(http.StatusOK)
	if m.body.Len()+len(p) > m.most {
		m.err = errLong
		return 0, errLong
	}
	return m.body.Write(p)
}
