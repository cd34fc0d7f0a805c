package rabbit

import (
	"os"
	"testing"
)

// TestStart: two nodes live beside each other.
func TestStart(t *testing.T) {
	if os.Getenv("WEIR_SOAK") == "" {
		t.Skip("WEIR_SOAK=1 starts RabbitMQ")
	}
	if a, b := Start(t), Start(t); a.URL == b.URL {
		t.Errorf("both nodes are at %s", a.URL)
	}
}
