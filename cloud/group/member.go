package group

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"
)

// member is one member of a group. Coordinator.mu guards it.
type member struct {
	id         string
	instance   string
	clientID   string
	clientHost string
	arrival    uint64
	session    time.Duration
	rebalance  time.Duration
	protocols  []Protocol

	assignment []byte
	synced     bool // has asked for its assignment in this generation, or cannot know of the generation
	anonymous  bool // was never told its id

	deadline time.Time // a sign of life is due before this
	timer    *time.Timer

	join chan joinAnswer // not nil while a Join waits; has room for one answer
	sync chan syncAnswer // not nil while a Sync waits; has room for one answer
}

type joinAnswer struct {
	JoinResponse
	err error
}

type syncAnswer struct {
	SyncResponse
	err error
}

const maxPrefix = 255 // bytes of a member id that come from the client

// newMemberID returns a new unique id, so that a member of an earlier owner or
// generation is never taken for this one. The client's name in it is for people; it
// must be valid UTF-8 for clients that decode it.
func newMemberID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	prefix = strings.ToValidUTF8(prefix[:min(len(prefix), maxPrefix)], "")
	return fmt.Sprintf("%s-%x-%x-%x-%x-%x", prefix, b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// update stores what a Join says about the member.
func (g *group) update(m *member, r *JoinRequest) {
	m.clientID, m.clientHost = r.ClientID, r.ClientHost
	m.session, m.rebalance = r.Session, r.Rebalance
	g.c.bytes += protocolBytes(r.Protocols) - protocolBytes(m.protocols)
	m.protocols = make([]Protocol, len(r.Protocols))
	for i, p := range r.Protocols {
		m.protocols[i] = Protocol{Name: p.Name, Metadata: bytes.Clone(p.Metadata)}
	}
}

// protocolSize is how many bytes a protocol takes besides its name and metadata.
const protocolSize = 40

func protocolBytes(ps []Protocol) int {
	n := 0
	for _, p := range ps {
		n += protocolSize + len(p.Name) + len(p.Metadata)
	}
	return n
}

// assign sets the member's assignment; nil removes it.
func (g *group) assign(m *member, assignment []byte) {
	g.c.bytes += len(assignment) - len(m.assignment)
	m.assignment = bytes.Clone(assignment)
}

// same reports whether the member's protocols are unchanged.
func (m *member) same(protocols []Protocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

func (m *member) supports(protocol string) bool {
	return slices.ContainsFunc(m.protocols, func(p Protocol) bool { return p.Name == protocol })
}

func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

// touch records a sign of life. It does not reset the timer: a timer that fires early
// is started again for the rest.
func (m *member) touch() { m.deadline = time.Now().Add(m.session) }

// waits reports whether the coordinator holds a request of the member. Then the
// member counts as alive, however long that takes.
func (m *member) waits() bool { return m.join != nil || m.sync != nil }

// awaitJoin makes a channel for a Join to wait on. If an earlier Join still waits,
// the client has given up its connection.
func (m *member) awaitJoin() chan joinAnswer {
	m.answer(ErrRebalanceInProgress)
	m.join = make(chan joinAnswer, 1)
	return m.join
}

func (m *member) awaitSync() chan syncAnswer {
	m.answer(ErrRebalanceInProgress)
	m.sync = make(chan syncAnswer, 1)
	return m.sync
}

// answer ends the waiting requests with an error.
func (m *member) answer(err error) {
	if m.join != nil {
		m.join <- joinAnswer{err: err}
		m.join = nil
	}
	m.answerSync(SyncResponse{}, err)
}

func (m *member) answerSync(r SyncResponse, err error) {
	if m.sync != nil {
		m.sync <- syncAnswer{r, err}
		m.sync = nil
	}
}

// watch starts the timer of the member's session.
func (g *group) watch(m *member) {
	m.touch()
	m.timer = time.AfterFunc(m.session, func() { g.c.expire(g, m) })
}

// expire removes a member that was silent for its session timeout.
func (c *Coordinator) expire(g *group, m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || g.members[m.id] != m {
		return
	}
	if m.waits() {
		m.touch()
	}
	if left := time.Until(m.deadline); left > 0 {
		m.timer.Reset(left)
		return
	}
	c.opts.Log.Info("group member removed: it sent no heartbeat in time", "group", g.id, "member", m.id, "address", m.clientHost, "session_timeout", m.session)
	g.remove(m, ErrUnknownMember)
	g.dropIdle()
}

// remove removes a member, answers its waiting requests with why, and starts a
// rebalance.
func (g *group) remove(m *member, why error) {
	g.forget(m, why)
	switch g.state {
	case Stable, CompletingRebalance:
		g.rebalance()
	case PreparingRebalance:
		g.tryFinishJoin()
	}
}

// forget removes a member and answers its waiting requests, without a rebalance.
func (g *group) forget(m *member, why error) {
	m.answer(why)
	m.timer.Stop()
	g.c.bytes -= protocolBytes(m.protocols) + len(m.assignment)
	delete(g.members, m.id)
	if m.instance != "" && g.instances[m.instance] == m.id {
		delete(g.instances, m.instance)
	}
}
