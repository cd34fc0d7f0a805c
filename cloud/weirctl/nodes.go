package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/configs"
)

func nodesVerb() verb {
	actions := []string{"list", "token", "revoke", "reset"}
	return verb{
		actions: actions,
		name:    "nodes", usage: "[token NAME | revoke NAME | reset NAME] [flags]",
		summary: "list the nodes of the cluster, let one in without the secret, or revoke one",
		notes: "Any node answers, also while there is no owner of the catalogue. A node that is gone is listed for some\n" +
			"minutes. CATALOGUE is how old what the node knows of users, permissions and topics is; CLOCK how far its\n" +
			"clock is from that of the node that answers. -o json has more: counts, moves and addresses.\n\n" +
			"token prints a token, which is not shown again, for the node of that name: with --roles door, --join-file and\n" +
			"without --secret-file it gets a certificate with it, once.\n\n" +
			"revoke shuts a node out that was stolen or broken into: the others do not talk to it any more, and take over\n" +
			"what it owns. It does not undo what the node knows: the answer says what else is to be done. reset lets a node\n" +
			"of that name in again; start it after that.\n\n" +
			"Examples:\n  weirctl nodes --cloud https://a.example:8080,https://b.example:8080\n  weirctl nodes revoke b",
		flags: func(fs *pflag.FlagSet, c *call) {
			configs.DurationVar(fs, &c.life, "life", fleet.DefaultTokenLife, "token: `time` for which it can be used, such as 12h or 7d")
			fs.BoolVar(&c.unknown, "unknown", false, "revoke: also a name that no node has now or had in the last minutes")
		},
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listNodes(ctx)
			case len(c.args) == 2 && c.args[0] == "token":
				return c.nodeToken(ctx, c.args[1])
			case len(c.args) == 2 && c.args[0] == "revoke":
				return c.revokeNode(ctx, c.args[1])
			case len(c.args) == 2 && c.args[0] == "reset":
				if err := c.post(ctx, "/v1/nodes/reset", console.NodeChange{Name: c.args[1]}, nil); err != nil {
					return err
				}
				return c.done("node %s may come back: start it, without --secret-file with a new token (weirctl nodes token)", c.args[1])
			}
			return c.wrong("nodes takes no argument, token NAME, revoke NAME or reset NAME", actions)
		},
	}
}

// revokeNode revokes a node, and says what is left to do.
func (c *call) revokeNode(ctx context.Context, name string) error {
	var done console.RevokedNode
	if err := c.post(ctx, "/v1/nodes/revoke", console.NodeChange{Name: name, Unknown: c.unknown}, &done); err != nil {
		return err
	}
	if printed, err := c.print(done); printed {
		return err
	}
	_, err := fmt.Fprintf(c.stdout, "node %s is revoked: the other nodes do not talk to it, and take over what it owns\n"+
		"it had the credentials of the bucket, with which it still reads and writes everything they allow: end them at the bucket,\n"+
		"and if other nodes use the same, give these new ones first\n", name)
	if err == nil && done.Secret {
		_, err = fmt.Fprint(c.stdout, "it had the secret of --secret-file, and so the CA's key, with which it can make certificates for gateways and for nodes of other names.\n"+
			"There is no command that replaces the key while gateways stay joined: if somebody may have it, stop all nodes, delete the object authority,\n"+
			"and run weirctl check BUCKET --repair with a new secret. Then all gateways join again\n")
	} else if err == nil {
		_, err = fmt.Fprintln(c.stdout, "it joined with a token, without the CA's key: for 30 days at most gateways that dial its address still take it for the cloud")
	}
	return err
}

// nodeToken makes a token for a node.
func (c *call) nodeToken(ctx context.Context, name string) error {
	switch {
	case c.life < time.Second:
		return fmt.Errorf("--life %v is shorter than a second", c.life)
	case c.life > maxTokenLife:
		return fmt.Errorf("--life %s: a token can be used for %s at most", configs.FormatDuration(c.life), configs.FormatDuration(maxTokenLife))
	}
	var t console.Token
	if err := c.post(ctx, "/v1/nodes/token", console.NewNodeToken{Name: name, Seconds: int(c.life / time.Second)}, &t); err != nil {
		return err
	}
	if done, err := c.print(t); done {
		return err
	}
	_, err := fmt.Fprintln(c.stdout, t.Token)
	return err
}

func (c *call) listNodes(ctx context.Context) error {
	var all console.Nodes
	if err := c.get(ctx, "/v1/nodes", &all); err != nil {
		return err
	}
	if done, err := c.print(all); done {
		return err
	}
	now := time.Now()
	var rows []table.Row
	for _, n := range all.Nodes {
		rows = append(rows, nodeRow(n, now))
	}
	printTable(c.stdout, table.Row{"node", "state", "since", "shards", "records/s", "catalogue", "clock", "version", "roles", "certificate until", "peer", "boot"}, rows)
	for _, n := range all.Nodes {
		if n.Error != "" {
			fmt.Fprintf(c.stdout, "%s: %s\n", n.Name, n.Error)
		}
	}
	return nil
}

func nodeRow(n console.ClusterNode, now time.Time) table.Row {
	if n.State == console.NodeRevoked {
		return table.Row{n.Name, n.State, "-", "-", "-", "-", "-", "-", "-", "-", "-", "-"}
	}
	if n.State != console.NodeUp {
		return table.Row{n.Name, n.State, "heard " + span(now, n.Heard) + " ago", "-", "-", "-", "-", orDash(n.Version), orDash(strings.Join(n.Roles, ",")), "-", orDash(n.Peer), orDash(n.Boot)}
	}
	state, served, rate := cmp.Or(n.Role, n.State), 0, 0.0
	for _, s := range n.Shards {
		if s.State == string(cluster.Owning) {
			served++
		}
		rate += s.Rate
	}
	if n.Draining {
		state += ", draining"
	}
	if n.Started.IsZero() { // it says nothing of itself
		return table.Row{n.Name, state, "-", "-", "-", "-", "-", orDash(n.Version), orDash(strings.Join(n.Roles, ",")), "-", orDash(n.Peer), orDash(n.Boot)}
	}
	until := "-"
	if !n.Certificate.IsZero() {
		until = n.Certificate.Format("2006-01-02")
	}
	return table.Row{n.Name, state, span(now, n.Started), strconv.Itoa(served), perSecond(rate), age(n.Catalogue), clock(n.Ahead), orDash(n.Version), orDash(strings.Join(n.Roles, ",")), until, orDash(n.Peer), orDash(n.Boot)}
}

// age writes a number of seconds.
func age(seconds float64) string {
	return configs.FormatDuration(time.Duration(seconds * float64(time.Second)).Round(100 * time.Millisecond))
}

// clock writes how far a clock is ahead, if that is worth it.
func clock(ahead time.Duration) string {
	switch {
	case ahead.Abs() < time.Second:
		return "right"
	case ahead < 0:
		return configs.FormatDuration((-ahead).Round(time.Second)) + " slow"
	}
	return configs.FormatDuration(ahead.Round(time.Second)) + " fast"
}

func shardsVerb() verb {
	actions := []string{"list", "split"}
	return verb{
		actions: actions,
		name:    "shards", usage: "[split [--to N [--dry-run]]] [flags]",
		summary: "list the shards of the cluster, and which node has each, or give it more",
		notes: "Any node answers, also while there is no owner of the catalogue (shard 0). STATE is owner if the shard is\n" +
			"served, recovering while its log is read, handing while it goes to another node, doubt while the bucket does\n" +
			"not answer its owner, and none if no node has it. CAME says why the shard came to its owner.\n\n" +
			"split --to N moves slices, each with its partitions, groups and transactions, to new shards of the running\n" +
			"cluster, until N shards have data. Nodes that have fewer get them. Clients and gateways lose nothing; those\n" +
			"of slices that move wait for less than a second, as a rule. Shards cannot be put together again. Without\n" +
			"--to it shows how far that is. All nodes need --peer, and a version that knows it; see weirctl upgrade, too.",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.IntVar(&c.shards, "to", 0, "`number` of shards that are to have data: more than now, 1,024 at most")
			fs.BoolVar(&c.dryRun, "dry-run", false, "show what would move, and move nothing")
		},
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listShards(ctx)
			case len(c.args) == 1 && c.args[0] == "split":
				return c.splitShards(ctx)
			}
			return c.wrong("shards takes no argument, or split", actions)
		},
	}
}

func (c *call) listShards(ctx context.Context) error {
	var all console.Shards
	if err := c.get(ctx, "/v1/shards", &all); err != nil {
		return err
	}
	if done, err := c.print(all); done {
		return err
	}
	now := time.Now()
	var rows []table.Row
	for _, s := range all.Shards {
		since := "-"
		if !s.Since.IsZero() {
			since = span(now, s.Since)
		}
		rows = append(rows, table.Row{s.Shard, orDash(s.Owner), s.State, s.Epoch, since, s.Slices, s.Partitions, perSecond(s.Rate), configs.FormatBytes(int64(s.ByteRate)) + "/s", orDash(s.Came())})
	}
	printTable(c.stdout, table.Row{"shard", "owner", "state", "epoch", "since", "slices", "partitions", "records/s", "bytes/s", "came"}, rows)
	if all.Auto != "" {
		fmt.Fprintf(c.stdout, "split by itself (--shards auto): %s\n", all.Auto)
	}
	return nil
}

// printCluster writes one line for each part of a cluster of several shards.
func printCluster(w io.Writer, s console.Status, now time.Time) error {
	var nodes []string
	up := 0
	for _, n := range s.Nodes {
		switch {
		case n.Role == console.NodeSilent:
			nodes = append(nodes, fmt.Sprintf("%s (silent, heard %s ago)", n.Name, span(now, n.Heard)))
			continue
		case n.Since.IsZero():
			nodes = append(nodes, fmt.Sprintf("%s (%s, %d shards)", n.Name, n.Role, n.Shards))
		default:
			nodes = append(nodes, fmt.Sprintf("%s (%s, %d shards, for %s)", n.Name, n.Role, n.Shards, span(now, n.Since)))
		}
		up++
	}
	_, err := fmt.Fprintf(w, "cluster    %s, version %s of node %s; %d shards, %d of %d nodes up\nnodes      %s\nshards     %s\nmoves      %s\ncatalogue  at most %s old\n"+
		"gateways   %s\ntopics     %d with %d partitions: %d records, %s at rest, %s records/s, %s/s\ngroups     %d, behind: %s\ndamage     %s\n",
		s.Cluster, s.Version, s.Node, len(s.Shards), up, len(s.Nodes), strings.Join(nodes, ", "), shardStates(s.Shards), movesOf(s, now), age(s.Oldest),
		gatewaysLine(s.Gateways), s.Topics, s.Partitions, s.Records, configs.FormatBytes(s.Bytes), perSecond(s.Rate), configs.FormatBytes(int64(s.ByteRate)),
		s.Groups, behindLine(s.Lagging), damageLine(s.Damaged))
	if err == nil {
		err = printDoors(w, s.Doors)
	}
	if err == nil && s.Disk.Size > 0 {
		_, err = fmt.Fprintf(w, "disk       %s free of %s (%s of node %s)\n", configs.FormatBytes(int64(s.Disk.Free)), configs.FormatBytes(int64(s.Disk.Size)), s.Disk.Path, s.Node)
	}
	return err
}

// shardStates counts the shards by state, the served ones first.
func shardStates(all []console.ShardStatus) string {
	states := make(map[string]int)
	for _, s := range all {
		states[s.State]++
	}
	served := states[string(cluster.Owning)]
	delete(states, string(cluster.Owning))
	text := []string{fmt.Sprintf("%d served", served)}
	for _, state := range slices.Sorted(maps.Keys(states)) {
		text = append(text, fmt.Sprintf("%d %s", states[state], state))
	}
	return strings.Join(text, ", ")
}

// movesOf says how shards have moved, and the last move.
func movesOf(s console.Status, now time.Time) string {
	var text []string
	for _, why := range cluster.Reasons() {
		if n := s.Moves[string(why)]; n > 0 {
			text = append(text, fmt.Sprintf("%d %s", n, why))
		}
	}
	var last *console.ShardStatus
	for i := range s.Shards {
		if one := &s.Shards[i]; !one.Since.IsZero() && (last == nil || one.Since.After(last.Since)) {
			last = one
		}
	}
	line := cmp.Or(strings.Join(text, ", "), "none")
	if last != nil {
		line += fmt.Sprintf("; the last: shard %d to %s %s ago (%s)", last.Shard, last.Owner, span(now, last.Since), last.Came())
	}
	return line
}
