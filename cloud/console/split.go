package console

import (
	"fmt"
	"net/http"

	"github.com/weirmq/weir/cloud/admin"
)

// NewSplit is the body of a request to move slices to new shards.
type NewSplit struct {
	Data   int  `json:"data"`    // how many shards are to have data
	DryRun bool `json:"dry_run"` // nothing moves
}

// Split is what is done so that a cluster has more shards.
type Split struct {
	Shards  int    `json:"shards"` // that have data or, at first, the one that has everything
	Data    int    `json:"data"`   // how many are to have data at the end
	Moves   []Move `json:"moves"`
	Running bool   `json:"running"`
	Error   string `json:"error,omitempty"` // why it has ended before the end
}

// Move is slices that move from a shard to a new one.
type Move struct {
	From   uint32 `json:"from"`
	To     uint32 `json:"to"`
	Slices int    `json:"slices"`
	Done   bool   `json:"done"`
}

func (c *console) split(r *http.Request) (any, error) {
	req, err := decode[NewSplit](r)
	if err != nil {
		return nil, err
	}
	if req.Data < 1 {
		return nil, fmt.Errorf("%w: data must be how many shards are to have data", errInput)
	}
	admin.Note(r, "data", req.Data, "dry_run", req.DryRun)
	return c.Split(r.Context(), req.Data, req.DryRun)
}

func (c *console) splitState(*http.Request) (any, error) { return c.SplitState() }
