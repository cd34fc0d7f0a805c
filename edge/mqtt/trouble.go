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
		storing: episode("messages cannot be stored: they are not acknowledged, and their clients are disconnected so that they send them again",
			"messages are stored again"),
		state: episode("the session state cannot be written: clients with persistent sessions are refused",
			"the session state is written again"),
		owed: episode("messages for sessions without a connection cannot be stored: they are not acknowledged, and their clients are disconnected so that they send them again",
			"messages for sessions without a connection are stored again"),
		wills: episode("a will cannot be stored: it is lost", "no will has been lost for a while"),
		sessions: episode("there is no room for another session: its client is refused; raise --mqtt-state or --mqtt-sessions",
			"no session has been refused for a while"),
		subscriptions: episode("a subscription is over a limit: it is refused; raise --mqtt-subscriptions, --mqtt-client-state or --mqtt-state",
			"no subscription has been refused for a while"),
		ids: episode("a client has too many QoS 2 messages without PUBREL: the next is refused",
			"no client has had too many QoS 2 messages without PUBREL for a while"),
		retained: episode("a retained message is over a limit: it is delivered but not retained; raise --mqtt-retained, --mqtt-retained-bytes or --mqtt-state",
			"all retained messages have been within the limits for a while"),
	}
}
