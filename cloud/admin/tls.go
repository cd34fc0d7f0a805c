package admin

import (
	"fmt"
	"log/slog"

	"github.com/weirmq/weir/cloud/listener"
)

// Certificates reads the certificate and the key of an admin port, two PEM files that
// are read again when they change.
func Certificates(certificate, key string, log *slog.Logger) (*listener.Certificates, error) {
	c, err := listener.Settings{Name: "http", TLSCert: certificate, TLSKey: key}.Certificates(log)
	if err != nil {
		return nil, fmt.Errorf("load the certificate of --http: %w", err)
	}
	return c, nil
}
