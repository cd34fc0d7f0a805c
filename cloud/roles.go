package cloud

import "github.com/weirmq/weir/cloud/cluster"

// sayRoles logs what a node that does not have all roles does in its cluster.
func (n *Node) sayRoles() {
	r := n.o.Roles
	if r.Has(cluster.RoleDoor | cluster.RoleMeta | cluster.RoleLog) {
		return
	}
	owns := ""
	switch single := n.shards.created == 1; {
	case single && r.Has(cluster.RoleMeta|cluster.RoleLog):
		n.o.Log.Warn("this node has no door, and the owner of the only shard of a cluster serves its clients and gateways itself: add the role door, or create the cluster with --shards", "roles", r)
		return
	case single && (r.Has(cluster.RoleMeta) || r.Has(cluster.RoleLog)):
		owns = "nothing while the cluster has one shard, which needs the roles meta and log; something when shards are split"
	case r.Has(cluster.RoleMeta | cluster.RoleLog):
		owns = "the catalogue and data shards"
	case r.Has(cluster.RoleMeta):
		owns = "the catalogue"
	case r.Has(cluster.RoleLog):
		owns = "data shards"
	default:
		owns = "nothing: it passes on what comes to its doors"
	}
	n.o.Log.Info("this node has some roles only", "roles", r, "may_own", owns)
}
