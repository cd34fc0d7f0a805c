package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/console"
)

func loginVerb() verb {
	return verb{
		name: "login", usage: "[flags]",
		summary: "store a credential for the node at --cloud",
		notes: "It asks for the token, or reads it from standard input, tries it, and stores it in ~/.config/weir, where only\n" +
			"you can read it. weirctl on the node's own machine needs no login: it finds the node's credential in\n" +
			"--data, /var/lib/weir-cloud or ./data/cloud. Another way is the variable " + tokenVariable + ".\n\n" +
			"Example:\n  weirctl login --cloud https://cloud.example:8080",
		run: func(ctx context.Context, c *call) error {
			if len(c.args) > 0 {
				return fmt.Errorf("login takes no argument %q: the token is asked for", c.args[0])
			}
			base, err := c.base()
			if err != nil {
				return err
			}
			text, err := c.secret("Admin token for " + key(base))
			if err != nil {
				return err
			}
			token, err := admin.ParseToken(text)
			if err != nil {
				return err
			}
			c.shown = &credential{token, "standard input"}
			var node console.Node
			if err := c.get(ctx, "/v1/node", &node); err != nil {
				return err
			}
			if err := c.save(key(base), token); err != nil {
				return err
			}
			return c.done("logged in at %s, node %s", key(base), node.Name)
		},
	}
}

func logoutVerb() verb {
	return verb{
		name: "logout", usage: "[flags]",
		summary: "remove the stored credential for the node at --cloud",
		notes:   "The credential itself stays valid until weirctl admin remove.",
		run: func(_ context.Context, c *call) error {
			if len(c.args) > 0 {
				return fmt.Errorf("logout takes no argument %q", c.args[0])
			}
			base, err := c.base()
			if err != nil {
				return err
			}
			all, err := c.saved()
			if err != nil {
				return err
			}
			if all[key(base)] == "" {
				return errors.New("there is no stored credential for " + key(base))
			}
			if err := c.save(key(base), ""); err != nil {
				return err
			}
			return c.done("logged out at %s", key(base))
		},
	}
}
