package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/console"
)

// aclFlags say which ACLs a call is about.
type aclFlags struct {
	user, host           string
	topics, groups, txns []string
	cluster, prefix      bool
	allow, deny          []string
}

func aclsVerb() verb {
	actions := []string{"list", "add", "delete"}
	return verb{
		actions: actions,
		name:    "acls", usage: "[add | delete] [flags]",
		summary: "list, add or remove ACLs: what users of Kafka may do",
		notes: "ACLs are enforced if weir-cloud runs with --kafka-authorize. Then only what an ACL allows is allowed, except\n" +
			"to --kafka-super-users, who may do everything. An ACL that denies overrides those that allow.\n" +
			"Operations are read, write, create, delete, alter, describe, describe-configs, alter-configs,\n" +
			"cluster-action, idempotent-write, and all. A user that may read, write, delete or alter may describe, too.\n\n" +
			"Examples:\n" +
			"  weirctl acls add --user ann --allow write,create --topic sensors      # a producer\n" +
			"  weirctl acls add --user bob --allow read --topic sensors --group bobs # a consumer\n" +
			"  weirctl acls add --user bob --allow all --topic bob. --prefix\n" +
			"  weirctl acls add --user '*' --deny delete --topic '*'\n" +
			"  weirctl acls delete --user bob --allow all --topic bob. --prefix\n" +
			"  weirctl acls --user bob",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.StringVar(&c.acl.user, "user", "", "`name` of the user, or '*' for all")
			fs.StringSliceVar(&c.acl.allow, "allow", nil, "`operations` that are allowed")
			fs.StringSliceVar(&c.acl.deny, "deny", nil, "`operations` that are denied")
			fs.StringSliceVar(&c.acl.topics, "topic", nil, "`names` of topics, or '*' for all")
			fs.StringSliceVar(&c.acl.groups, "group", nil, "`names` of consumer groups, or '*' for all")
			fs.StringSliceVar(&c.acl.txns, "transactional-id", nil, "`names` of transactional ids, or '*' for all")
			fs.BoolVar(&c.acl.cluster, "cluster", false, "the cluster as a whole")
			fs.BoolVar(&c.acl.prefix, "prefix", false, "the names are prefixes: all that begin with them")
			fs.StringVar(&c.acl.host, "host", "", "IP `address` of the client that the permission is for (default: all)")
		},
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listACLs(ctx)
			case len(c.args) == 1 && c.args[0] == "add":
				acls, err := c.acl.all()
				if err != nil {
					return err
				}
				if err := c.post(ctx, "/v1/acls", acls, nil); err != nil {
					return err
				}
				return c.done("%d ACLs exist now", len(acls))
			case len(c.args) == 1 && c.args[0] == "delete":
				return c.deleteACLs(ctx)
			}
			return c.wrong("acls takes no argument, add or delete, and flags that say which", actions)
		},
	}
}

// all lists the ACLs that the flags name: each operation with each resource.
func (f aclFlags) all() ([]auth.ACL, error) {
	rule := auth.Rule{Principal: auth.Principal(f.user), Host: auth.Any}
	if f.host != "" {
		rule.Host = f.host
	}
	var rules []auth.Rule
	for permission, names := range map[auth.Permission][]string{auth.Allow: f.allow, auth.Deny: f.deny} {
		for _, name := range names {
			rule.Permission = permission
			if err := rule.Operation.UnmarshalText([]byte(name)); err != nil {
				return nil, fmt.Errorf("--%s: %w", permission, err)
			}
			rules = append(rules, rule)
		}
	}
	resources := f.resources()
	switch {
	case f.user == "":
		return nil, errors.New("--user is missing: set --user NAME, or --user '*' for all users")
	case len(rules) == 0:
		return nil, errors.New("--allow OPERATION or --deny OPERATION is missing")
	case len(resources) == 0:
		return nil, errors.New("what the ACL is for is missing: set --topic, --group, --transactional-id or --cluster")
	}
	var all []auth.ACL
	for _, resource := range resources {
		for _, rule := range rules {
			a := auth.ACL{Resource: resource, Rule: rule}
			if err := a.Check(); err != nil {
				return nil, err
			}
			all = append(all, a)
		}
	}
	return all, nil
}

func (f aclFlags) resources() []auth.Resource {
	pattern := auth.Literal
	if f.prefix {
		pattern = auth.Prefixed
	}
	var all []auth.Resource
	for _, names := range []struct {
		of    auth.ResourceType
		names []string
	}{{auth.Topic, f.topics}, {auth.Group, f.groups}, {auth.TransactionalID, f.txns}} {
		for _, name := range names.names {
			all = append(all, auth.Resource{Type: names.of, Pattern: pattern, Name: name})
		}
	}
	if f.cluster {
		all = append(all, auth.Resource{Type: auth.ClusterResource, Pattern: auth.Literal, Name: auth.Cluster})
	}
	return all
}

// exactly chooses one ACL.
func exactly(a auth.ACL) string {
	return "/v1/acls?" + url.Values{
		"type": {a.Type.String()}, "pattern": {a.Pattern.String()}, "name": {a.Name}, "principal": {a.Principal},
		"host": {a.Host}, "operation": {a.Operation.String()}, "permission": {a.Permission.String()},
	}.Encode()
}

func (c *call) deleteACLs(ctx context.Context) error {
	acls, err := c.acl.all()
	if err != nil {
		return err
	}
	var removed []auth.ACL
	for _, a := range acls {
		var gone console.Removed
		if err := c.request(ctx, "DELETE", exactly(a), nil, &gone); err != nil {
			return err
		}
		removed = append(removed, gone.ACLs...)
	}
	if len(removed) == 0 {
		return errors.New("there is no such ACL: weirctl acls lists all")
	}
	return c.printACLs(removed)
}

func (c *call) listACLs(ctx context.Context) error {
	query := url.Values{}
	if c.acl.user != "" {
		query.Set("principal", auth.Principal(c.acl.user))
	}
	if c.acl.host != "" {
		query.Set("host", c.acl.host)
	}
	var acls []auth.ACL
	if err := c.get(ctx, "/v1/acls?"+query.Encode(), &acls); err != nil {
		return err
	}
	return c.printACLs(acls)
}

func (c *call) printACLs(acls []auth.ACL) error {
	if done, err := c.print(acls); done {
		return err
	}
	var rows []table.Row
	for _, a := range acls {
		name := a.Name
		if a.Pattern == auth.Prefixed {
			name += "…"
		}
		rows = append(rows, table.Row{strings.TrimPrefix(a.Principal, "User:"), a.Permission.String(), a.Operation.String(), a.Type.String(), name, a.Host})
	}
	printTable(c.stdout, table.Row{"user", "is", "to", "of", "name", "from"}, rows)
	return nil
}
