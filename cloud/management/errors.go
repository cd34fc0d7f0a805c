package management

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue"
)

// refusal is an error with its place in RabbitMQ's answers.
type refusal struct {
	status int
	kind   string // the member error
	reason string
}

func (e *refusal) Error() string { return e.kind + ": " + e.reason }

// Errors in RabbitMQ's words.
var (
	errNoLogin          = &refusal{http.StatusUnauthorized, "not_authorised", "Login failed"}
	errLogin            = &refusal{http.StatusUnauthorized, "not_authorised", "Login failed"}
	errVhost            = &refusal{http.StatusUnauthorized, "not_authorised", "User not authorised to access virtual host"}
	errNotAdministrator = &refusal{http.StatusUnauthorized, "not_authorised", "Not administrator user"}
	errRefused          = &refusal{http.StatusUnauthorized, "not_authorised", "Access refused."}
	errNotFound         = &refusal{http.StatusNotFound, "Object Not Found", "Not Found"}
	errNoVhost          = &refusal{http.StatusNotFound, "not_found", "vhost_not_found"}
	errMethod           = &refusal{http.StatusMethodNotAllowed, "Method Not Allowed", "the path has no such method"}
)

func badRequest(format string, args ...any) *refusal {
	return &refusal{http.StatusBadRequest, "bad_request", fmt.Sprintf(format, args...)}
}

// refuse answers a request that failed.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := refusalOf(err)
	if e.status == http.StatusInternalServerError {
		s.o.Log.Error("a management request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if e == errNoLogin || e == errLogin {
		w.Header().Set("WWW-Authenticate", `Basic realm="Weir Management"`)
	}
	reply(w, e.status, map[string]string{"error": e.kind, "reason": e.reason})
}

// refusalOf says how an error is answered.
func refusalOf(err error) *refusal {
	if e, ok := errors.AsType[*refusal](err); ok {
		return e
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		switch e.Code {
		case wire.NotFound:
			return &refusal{http.StatusNotFound, "not_found", e.Text}
		case wire.AccessRefused:
			return errRefused
		}
		return badRequest("%s", e.Text)
	}
	if _, ok := errors.AsType[*login.Refused](err); ok {
		return errLogin
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &refusal{http.StatusRequestEntityTooLarge, "bad_request", err.Error()}
	case errors.Is(err, login.ErrChanged):
		return errLogin
	case errors.Is(err, queue.ErrNoQueue), errors.Is(err, auth.ErrUnknownUser), errors.Is(err, auth.ErrUnknownPermissions):
		return errNotFound
	case errors.Is(err, queue.ErrNoVhost):
		return errNoVhost
	case errors.Is(err, auth.ErrInvalid), errors.Is(err, auth.ErrTooMany), errors.Is(err, machine.ErrLevel), errors.Is(err, queue.ErrInvalid), errors.Is(err, queue.ErrVhostInUse):
		return badRequest("%v", err)
	case errors.Is(err, queue.ErrClosed), errors.Is(err, queue.ErrStarting), errors.Is(err, login.ErrNoUsers), errors.Is(err, broker.ErrNotOwner), errors.Is(err, broker.ErrUnavailable), errors.Is(err, context.Canceled):
		return &refusal{http.StatusServiceUnavailable, "service_unavailable", err.Error()}
	}
	return &refusal{http.StatusInternalServerError, "internal_server_error", err.Error()}
}
