package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/identity"
)

func adminVerb() verb {
	actions := []string{"list", "add", "remove", "reset"}
	return verb{
		actions: actions,
		name:    "admin", usage: "[add NAME | remove NAME | reset BUCKET] [flags]",
		summary: "list, add or remove the credentials of administrators",
		notes: "add prints a new token, which is not shown again. For a name that exists it replaces the former\n" +
			"one. read lists everything but secrets and records; operate reads records, and changes topics, groups and\n" +
			"gateways; administer changes users, ACLs, quotas and credentials too. node:NAME is the credential in a node's\n" +
			"own data directory: if it is removed, the node makes another.\n\n" +
			"reset makes a credential without asking a node, if all are lost. BUCKET is the URL that weir-cloud got as\n" +
			"--bucket. Restart all nodes then: the credential is valid once a node has become the owner.\n\n" +
			"Examples:\n  weirctl admin add ann --role operate\n  weirctl admin reset s3://weir?endpoint=http://127.0.0.1:9000 --secret-file /etc/weir/secret",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.StringVar(&c.role, "role", admin.Administer.String(), "add: what the holder may do: read, operate or administer")
			fs.StringVar(&c.secretFile, "secret-file", "", "reset: the `file` that weir-cloud got as --secret-file")
		},
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listAdmins(ctx)
			case len(c.args) == 2 && c.args[0] == "add":
				return c.addAdmin(ctx, c.args[1])
			case len(c.args) == 2 && c.args[0] == "remove":
				if err := c.del(ctx, "/v1/admins?name="+url.QueryEscape(c.args[1])); err != nil {
					return err
				}
				return c.done("credential %s removed", c.args[1])
			case len(c.args) == 2 && c.args[0] == "reset":
				return c.resetAdmin(ctx, c.args[1])
			}
			return c.wrong("admin takes no argument, add NAME, remove NAME or reset BUCKET", actions)
		},
	}
}

func (c *call) listAdmins(ctx context.Context) error {
	var all []console.Admin
	if err := c.get(ctx, "/v1/admins", &all); err != nil {
		return err
	}
	if done, err := c.print(all); done {
		return err
	}
	var rows []table.Row
	for _, a := range all {
		rows = append(rows, table.Row{a.Name, a.Role, a.Created.Local().Format("2006-01-02 15:04:05")})
	}
	printTable(c.stdout, table.Row{"name", "role", "created"}, rows)
	return nil
}

func (c *call) addAdmin(ctx context.Context, name string) error {
	var role admin.Role
	if err := role.UnmarshalText([]byte(c.role)); err != nil {
		return fmt.Errorf("--role: %w", err)
	}
	token := admin.NewToken()
	hash := admin.HashOf(token)
	if err := c.post(ctx, "/v1/admins", console.Admin{Name: name, Role: role, Hash: hash[:]}, nil); err != nil {
		return err
	}
	return c.printToken(token)
}

// printToken shows a token, alone on its line.
func (c *call) printToken(token string) error {
	if done, err := c.print(console.Token{Token: token}); done {
		return err
	}
	fmt.Fprintln(c.stdout, token)
	return nil
}

// readSecret returns what --secret-file holds, nil without the flag.
func (c *call) readSecret() ([]byte, error) {
	if c.secretFile == "" {
		return nil, nil
	}
	body, err := os.ReadFile(c.secretFile)
	if err != nil {
		return nil, fmt.Errorf("read --secret-file: %w", err)
	}
	return []byte(strings.TrimSpace(string(body))), nil
}

// resetAdmin leaves a credential in a bucket for the next owner.
func (c *call) resetAdmin(ctx context.Context, bucketURL string) error {
	bucket, err := existing(ctx, bucketURL)
	if err != nil {
		return err
	}
	defer storage.Close(bucket)
	cluster, found, err := identity.ReadCluster(ctx, bucket)
	switch {
	case err != nil:
		return err
	case !found:
		return errors.New("the bucket has no cluster yet: weir-cloud writes an admin token to its data directory when it first starts")
	case cluster.Format < auth.AdminLevel:
		return machine.ErrLevel
	}
	secret, err := c.readSecret()
	if err != nil {
		return err
	}
	ca, err := fleet.ReadAuthority(ctx, bucket, secret)
	if err != nil {
		return err
	}
	key, err := ca.Derive(auth.ResetLabel, 32)
	if err != nil {
		return err
	}
	token, err := auth.Reset(ctx, bucket, key, time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stderr, "The token is valid once a node has become the owner: restart weir-cloud on all nodes.")
	return c.printToken(token)
}
