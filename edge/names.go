package edge

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/wire"
)

// DefaultMaxTopics is how many Kafka topics the messages of a gateway may name, unless
// a flag sets it. It is also how many the cloud lets one gateway create.
const DefaultMaxTopics = 1000

// names are the Kafka topics that messages have named, at most limit of them: the names
// that devices choose must not fill the cluster. Three kinds of names are replaced by
// Unrouted: those above the limit, those that differ from another one only in . and _,
// which Kafka does not allow, and those that the cloud has refused for one of these
// reasons. The names are kept in a file, so that the same ones count after a restart.
// The file is not synced: a lost name is added again with its next message.
type names struct {
	limit int
	log   *slog.Logger

	mu      sync.Mutex
	known   map[string]string   // guarded by mu; by the name with _ for each .
	refused map[string]struct{} // guarded by mu; by the cloud, since this process started
	file    *os.File            // guarded by mu; nil: the file cannot be written
	said    bool                // guarded by mu: it was logged that there are too many
	alike   bool                // guarded by mu: it was logged that two names are alike
}

// plain maps names that Kafka considers equal to the same string.
func plain(name string) string { return strings.ReplaceAll(name, ".", "_") }

func namesFile(data string) string { return filepath.Join(data, "topics") }

// openNames reads the names of earlier processes. A damaged file does not stop any
// message.
func openNames(path string, limit int, log *slog.Logger) *names {
	n := &names{limit: limit, log: log, known: make(map[string]string), refused: make(map[string]struct{})}
	if err := n.read(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("list of topics not read: --max-topics counts from zero again", "err", err)
	}
	var err error
	if n.file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		n.stopWriting(err)
	}
	return n
}

func (n *names) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() && len(n.known) < n.limit {
		if name := scanner.Text(); LegalTopic(name) {
			n.known[plain(name)] = name
		}
	}
	return scanner.Err()
}

// stopWriting closes the file after an error. The caller holds mu, or n is not shared yet.
func (n *names) stopWriting(err error) {
	n.log.Warn("list of topics not written: after a restart --max-topics may admit other topics", "err", err)
	if n.file != nil {
		n.file.Close()
		n.file = nil
	}
}

// admit reports whether a message may name the topic.
func (n *names) admit(topic string) bool {
	if topic == Unrouted {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, refused := n.refused[topic]; refused {
		return false
	}
	if known, found := n.known[plain(topic)]; found {
		if known != topic && !n.alike {
			n.alike = true
			n.log.Warn("two topics differ only in . and _, which Kafka does not tell apart: messages for the second go to topic "+Unrouted,
				"topic", topic, "other", known)
		}
		return known == topic
	}
	if len(n.known) >= n.limit {
		if !n.said {
			n.said = true
			n.log.Warn("messages name more topics than --max-topics: those for the others go to topic "+Unrouted+" (raise it, or merge topics with a route)",
				"max_topics", n.limit, "topic", topic)
		}
		return false
	}
	n.known[plain(topic)] = topic
	if n.file != nil {
		if _, err := fmt.Fprintln(n.file, topic); err != nil {
			n.stopWriting(err)
		}
	}
	return true
}

// refuse notes records that the cloud has refused. If no topic of that name can be
// created, later messages do not wait for the same answer.
func (n *names) refuse(items []sender.Item, reason string) {
	if !strings.Contains(reason, wire.TooManyTopics) && !strings.Contains(reason, wire.NoSuchName) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, item := range items {
		if _, refused := n.refused[item.Topic]; refused || len(n.refused) >= n.limit {
			continue
		}
		n.refused[item.Topic] = struct{}{}
		n.log.Warn("the cloud does not create this topic: messages accepted for it before became dead letters, new ones go to topic "+Unrouted,
			"topic", item.Topic, "reason", reason)
	}
}

func (n *names) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == nil {
		return nil
	}
	err := n.file.Close()
	n.file = nil
	return err
}
