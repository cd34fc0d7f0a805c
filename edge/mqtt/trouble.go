package mqtt

import (
	"log/slog"

	"github.com/weirmq/weir/cloud/budget"
)

// troubles are the effects of a full or failing disk on the server. One line is logged when an
// effect begins and one when it is over, not one for each batch or client.
type troubles struct {
	storing *budget.Episode // the Backend does not store
	state   *budget.Episode // the Store does not take events
	owed    *budget.Episode // the log of what sessions are owed does not take messages
	wills   *budget.Episode // a will is refused, and its client is gone

	// Limits of what is remembered of clients are reached.
	sessions, subscriptions, ids, retained *budget.Episode
}

func newTroubles(log *slog.Logger) troubles {
	episode := func(begin, end string) *budget.Episode {
		return budget.NewEpisode(budget.EpisodeOptions{Begin: begin, End: end, Log: log})
	}
	return troubles{
		storing: episode("messages cannot be stored: none is acknowledged, and their clients are cut off so that they send again",
			"storing messages has not failed for a while"),
		state: episode("the session state cannot be written: clients with state are refused",
			"writing the session state has not failed for a while"),
		owed: episode("what sessions are owed cannot be written: the messages are not acknowledged, and their clients are cut off so that they send again",
			"writing what sessions are owed has not failed for a while"),
		wills: episode("a will is not stored, and is lost", "no will was lost for a while"),
		sessions: episode("there is no room for a session, its client is refused: raise --mqtt-state or --mqtt-sessions",
			"no session was refused for a while"),
		subscriptions: episode("a subscription is over a limit and refused: raise --mqtt-subscriptions, --mqtt-client-state or --mqtt-state",
			"no subscription was refused for a while"),
		ids: episode("a QoS 2 message is refused, its client has too many without PUBREL",
			"no client had too many QoS 2 messages without PUBREL for a while"),
		retained: episode("a message is over a limit and not retained, though it is stored: raise --mqtt-retained, --mqtt-retained-bytes or --mqtt-state",
			"every message that was to be retained was, for a while"),
	}
}
