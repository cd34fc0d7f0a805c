package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/configs"
)

// gatewayData returns the default data directories in which a gateway on this machine
// keeps its credential.
func gatewayData() []string { return []string{"/var/lib/weir-edge", "./data/edge"} }

// session is a line of the gateway's answer. It is not edge.Session, whose package
// would link the whole gateway.
type session struct {
	Client        string   `json:"client"`
	User          string   `json:"user,omitempty"`
	Connected     bool     `json:"connected"`
	Address       string   `json:"address,omitempty"`
	Subscriptions []string `json:"subscriptions"`
	InFlight      int      `json:"in_flight"`
	Queued        int      `json:"queued"`
	QueuedBytes   int64    `json:"queued_bytes"`
}

func sessionsVerb() verb {
	return verb{
		name: "sessions", usage: "[CLIENT] [flags]", offline: true,
		summary: "list the MQTT sessions of a gateway, with subscriptions and queues",
		notes: "It asks a gateway, not the cloud: --edge is its --http. On the gateway's own machine it finds the credential\n" +
			"in --data, /var/lib/weir-edge or ./data/edge; from elsewhere set " + tokenVariable + " to what its admin-token holds.\n" +
			"In flight are messages that were sent to a client and not acknowledged; queued are those that wait to be sent.\n\n" +
			"Example:\n  weirctl sessions --edge https://pump-house-3:8081 --ca ca.pem",
		flags: func(fs *pflag.FlagSet, c *call) {
			c.dirs = gatewayData()
			fs.StringVar(&c.cloud, "edge", "http://127.0.0.1:8081", "`URL` of the gateway's --http")
			fs.StringVar(&c.data, "data", "", "`directory` that is --data of a gateway on this machine: its credential is used (default: /var/lib/weir-edge or ./data/edge)")
			c.wayFlags(fs)
		},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) > 1 {
				return fmt.Errorf("sessions takes no argument, or the id of one client")
			}
			return c.sessions(ctx)
		},
	}
}

func (c *call) sessions(ctx context.Context) error {
	var all []session
	if err := c.get(ctx, "/sessions", &all); err != nil {
		return err
	}
	if len(c.args) == 1 {
		return c.oneSession(all, c.args[0])
	}
	if done, err := c.print(all); done {
		return err
	}
	var rows []table.Row
	for _, s := range all {
		rows = append(rows, table.Row{s.Client, s.state(), s.User, len(s.Subscriptions), s.InFlight, s.Queued, configs.FormatBytes(s.QueuedBytes)})
	}
	printTable(c.stdout, table.Row{"client", "state", "user", "subscriptions", "in flight", "queued", "size"}, rows)
	return nil
}

func (s session) state() string {
	if s.Connected {
		return "connected from " + s.Address
	}
	return "offline"
}

// oneSession prints a session with its subscriptions.
func (c *call) oneSession(all []session, client string) error {
	for _, s := range all {
		if s.Client != client {
			continue
		}
		if done, err := c.print(s); done {
			return err
		}
		_, err := fmt.Fprintf(c.stdout, "%s is %s: %d in flight, %d queued (%s)\nsubscriptions: %s\n", s.Client, s.state(), s.InFlight, s.Queued,
			configs.FormatBytes(s.QueuedBytes), strings.Join(s.Subscriptions, ", "))
		return err
	}
	return fmt.Errorf("there is no session of client %q", client)
}
