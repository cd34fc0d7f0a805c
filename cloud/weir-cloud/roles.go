package main

import (
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/configs"
)

// readRoles reads --roles, and switches the listeners for clients and gateways off if the
// node has no door. It refuses flags that contradict the roles.
func (s *settings) readRoles(fs *pflag.FlagSet) error {
	var err error
	if s.roles, err = cluster.ParseRoles(s.roleNames); err != nil {
		for _, name := range s.roleNames {
			if near := configs.Nearest(name, cluster.RoleNames()); near != "" && near != name {
				return fmt.Errorf("--roles: %w (did you mean %s?)", err, near)
			}
		}
		return fmt.Errorf("--roles: %w", err)
	}
	if s.peer == cloud.Off && !s.roles.Has(cluster.RoleMeta|cluster.RoleLog) {
		return fmt.Errorf("--peer off: a node with the roles %v alone needs the nodes that have the others: give it an address, or add roles", s.roles)
	}
	if s.roles.Has(cluster.RoleDoor) {
		return nil
	}
	off := []string{cloud.Off}
	for flag, values := range map[string]*[]string{"kafka": &s.kafka, "amqp": &s.amqp, "management": &s.management} {
		if fs.Changed(flag) && !slices.Equal(*values, off) {
			return fmt.Errorf("--%s opens a listener, and a node with the roles %v has none for clients: set --%s off, or add the role door", flag, s.roles, flag)
		}
		*values = off
	}
	if fs.Changed("sync") && s.sync != cloud.Off {
		return fmt.Errorf("--sync opens a port, and a node with the roles %v has none for gateways: set --sync off, or add the role door", s.roles)
	}
	s.sync = cloud.Off
	return nil
}
