package sender

import (
	"strings"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

// topicTTL is the age at which an answer is asked for again: the topic may have grown.
const topicTTL = 5 * time.Minute

// reserved reports whether a topic is the cloud's own. No gateway may write to it, so
// the cloud need not be asked.
func reserved(topic string) bool {
	return strings.HasPrefix(topic, "weir.") || strings.HasPrefix(topic, "__")
}

// resolve returns what the cloud said of a topic. If it has not said anything yet,
// resolve asks.
func (n *session) resolve(topic string) (*topicQuestion, error) {
	n.mu.Lock()
	q := n.topics[topic]
	if q != nil {
		copy := *q
		n.mu.Unlock()
		return &copy, nil
	}
	n.topics[topic] = &topicQuestion{}
	n.mu.Unlock()
	return &topicQuestion{}, n.send(&wire.Resolve{Name: topic})
}

// takeTopic notes an answer.
func (n *session) takeTopic(t *wire.Topic) {
	defer func() {
		select {
		case n.asking <- struct{}{}:
		default:
		}
	}()
	n.mu.Lock()
	defer n.mu.Unlock()
	q := n.topics[t.Name]
	if q == nil {
		return
	}
	n.news++
	switch {
	case t.Reason == wire.ReasonNone:
		q.answer, q.refuse, q.pause = t, nil, 0
		q.again = time.Now().Add(topicTTL)
	case t.Reason.ForGood() && t.Name != weir.GapTopic:
		q.refuse = t
		q.backOff()
	default:
		q.backOff()
	}
}

// backOff sets the time of the next question. The pause doubles each time.
func (q *topicQuestion) backOff() {
	q.pause = min(max(2*q.pause, minPause), maxPause)
	q.again = time.Now().Add(q.pause)
}

// answers counts the answers so far.
func (n *session) answers() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.news
}

// nextQuestion fires when a question is due; nil when none is.
func (n *session) nextQuestion() <-chan time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	var next time.Time
	for _, q := range n.topics {
		if !q.again.IsZero() && (next.IsZero() || q.again.Before(next)) {
			next = q.again
		}
	}
	if next.IsZero() {
		return nil
	}
	return time.After(time.Until(next))
}

// askAgain asks the questions that are due.
func (n *session) askAgain() error {
	var due []string
	n.mu.Lock()
	for name, q := range n.topics {
		if !q.again.IsZero() && !time.Now().Before(q.again) {
			q.again = time.Time{}
			due = append(due, name)
		}
	}
	n.mu.Unlock()
	for _, name := range due {
		if err := n.send(&wire.Resolve{Name: name}); err != nil {
			return err
		}
	}
	return nil
}
