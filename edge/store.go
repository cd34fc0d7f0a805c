package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/weirmq/weir/edge/mqtt"
)

// sessionsFile is where the MQTT server keeps its state.
func sessionsFile(data string) string { return filepath.Join(data, "sessions") }

// owedDir holds the messages that sessions are owed.
func owedDir(data string) string { return filepath.Join(data, "owed") }

// used reports whether a gateway has run in the data directory before. If so it had a
// log too, because that is created first.
func (o *Options) used() bool {
	for _, path := range []string{sessionsFile(o.Data), identityFile(o.Data)} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
}

// openStore opens the state of the MQTT server. If the file claims that a newer program
// wrote it, which one flipped bit does too, it is moved aside and the sessions begin
// anew: devices can connect in any case.
func openStore(data string, log *slog.Logger) (mqtt.Store, error) {
	path := sessionsFile(data)
	store, err := mqtt.OpenStore(path, log)
	if !errors.Is(err, mqtt.ErrFormat) {
		return store, err
	}
	aside := fmt.Sprintf("%s.aside-%d", path, time.Now().Unix())
	log.Error("session state not read: it was renamed, and sessions, subscriptions and retained messages are empty now. "+
		"If an older version of weir-edge was started, start the newer one and rename the file back", "err", err, "file", aside)
	if err := os.Rename(path, aside); err != nil {
		return nil, fmt.Errorf("rename it: %w", err)
	}
	return mqtt.OpenStore(path, log)
}
