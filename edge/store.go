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
	log.Error("the session state cannot be read: it is put aside, and persistent sessions, their subscriptions and retained messages begin anew. "+
		"After going back to an older version, go forward and put the file back", "err", err, "aside", aside)
	if err := os.Rename(path, aside); err != nil {
		return nil, fmt.Errorf("put it aside: %w", err)
	}
	return mqtt.OpenStore(path, log)
}
