package configs

import (
	"fmt"
	"io"
	"log/slog"
)

// Logger writes a daemon's log in the format of --log-format: text or json. In both,
// ids and addresses are written in readable form.
func Logger(w io.Writer, format string) *slog.Logger {
	if format != "json" {
		return slog.New(slog.NewTextHandler(w, nil))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindAny {
			if s, ok := a.Value.Any().(fmt.Stringer); ok {
				a.Value = slog.StringValue(s.String())
			}
		}
		return a
	}}))
}
