package mqtt

import (
	"log/slog"

	"github.com/weirmq/weir/cloud/budget"
)

// troubles are what a full or failing disk does to the server: a line when it
// begins and one when it is over, not one for each batch or client.
type troubles struct {
	storing *budget.Episode // the Backend does not store
	state   *budget.Episode // the Store does not take events
	wills   *budget.Episode // a will is refused, and nobody is there to be told
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
		wills: episode("a will is not stored, and is lost", "no will was lost for a while"),
	}
}
