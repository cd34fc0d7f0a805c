package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/listappend"
)

const (
	lists     = "lists" // topic
	listCount = 8
)

// transactions is clients that append to several lists in one transaction, and read what
// is committed. No committed value may be lost or doubled, none of an aborted transaction
// be read, and no transaction be seen in parts.
type transactions struct {
	t     *testing.T
	nodes *nodes
	done  []listappend.Transaction // set by run
}

func newTransactions(t *testing.T, n *nodes) *transactions {
	t.Helper()
	createTopic(t, n, lists, listCount)
	return &transactions{t: t, nodes: n}
}

func (x *transactions) options() listappend.Options {
	return listappend.Options{Brokers: x.nodes.kafka(), Topic: lists, Lists: listCount, Writers: 4, Seed: 1, Client: clientOptions(),
		Log: func(string, ...any) {}} // while nodes go away there is an error for each of them
}

func (x *transactions) run(ctx context.Context) { x.done = listappend.Run(ctx, x.options()) }

func (x *transactions) judge(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	final, err := listappend.Read(limited, x.options())
	if err != nil {
		x.t.Errorf("transactions: %v", err)
		return
	}
	outcomes := make(map[listappend.Outcome]int)
	for _, t := range x.done {
		outcomes[t.Outcome]++
	}
	x.t.Logf("transactions: %v", outcomes)
	if outcomes[listappend.Committed] == 0 {
		x.t.Error("no transaction was committed")
	}
	report := listappend.Check(x.done, final)
	for _, finding := range report.Bad() {
		x.t.Errorf("transactions: %s", finding)
	}
}
