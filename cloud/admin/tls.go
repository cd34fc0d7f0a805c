package admin

import (
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/weirmq/weir/cloud/listener"
)

// TLS returns the configuration of an admin port whose certificate and key lie in two
// PEM files, which are read again when they change.
func TLS(certificate, key string, log *slog.Logger) (*tls.Config, error) {
	config, err := listener.Settings{Name: "http", TLSCert: certificate, TLSKey: key}.TLS(log)
	if err != nil {
		return nil, fmt.Errorf("load the certificate of --http: %w", err)
	}
	return config, nil
}
