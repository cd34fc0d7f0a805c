package management

// calls are the requests that there are, by patterns of http.ServeMux.
func calls() map[string]call {
	return map[string]call{
		"GET /api/overview": overview, "GET /api/whoami": whoami, "GET /api/cluster-name": clusterName, "GET /api/extensions": extensions,
		"GET /api/nodes": listNodes, "GET /api/nodes/{name}": getNode,

		"GET /api/connections": listConnections, "GET /api/vhosts/{vhost}/connections": listConnections,
		"GET /api/connections/{name}": getConnection, "DELETE /api/connections/{name}": closeConnection,
		"GET /api/connections/{name}/channels": connectionChannels,
		"GET /api/channels":                    listChannels, "GET /api/vhosts/{vhost}/channels": listChannels, "GET /api/channels/{name}": getChannel,
		"GET /api/consumers": listConsumers, "GET /api/consumers/{vhost}": listConsumers,

		"GET /api/queues": listQueues, "GET /api/queues/{vhost}": listQueues,
		"GET /api/queues/{vhost}/{name}": getQueue, "PUT /api/queues/{vhost}/{name}": putQueue, "DELETE /api/queues/{vhost}/{name}": deleteQueue,
		"DELETE /api/queues/{vhost}/{name}/contents": purgeQueue, "POST /api/queues/{vhost}/{name}/get": getMessages,
		"GET /api/queues/{vhost}/{name}/bindings": queueBindings,

		"GET /api/exchanges": listExchanges, "GET /api/exchanges/{vhost}": listExchanges,
		"GET /api/exchanges/{vhost}/{name}": getExchange, "PUT /api/exchanges/{vhost}/{name}": putExchange, "DELETE /api/exchanges/{vhost}/{name}": deleteExchange,
		"POST /api/exchanges/{vhost}/{name}/publish":        publish,
		"GET /api/exchanges/{vhost}/{name}/bindings/source": sourceBindings, "GET /api/exchanges/{vhost}/{name}/bindings/destination": destinationBindings,

		"GET /api/bindings": listBindings, "GET /api/bindings/{vhost}": listBindings,
		"GET /api/bindings/{vhost}/e/{source}/{kind}/{destination}":       endBindings,
		"POST /api/bindings/{vhost}/e/{source}/{kind}/{destination}":      postBinding,
		"GET /api/bindings/{vhost}/e/{source}/{kind}/{destination}/{key}": getBinding, "DELETE /api/bindings/{vhost}/e/{source}/{kind}/{destination}/{key}": deleteBinding,

		"GET /api/vhosts": listVhosts, "GET /api/vhosts/{vhost}": getVhost, "PUT /api/vhosts/{vhost}": putVhost, "DELETE /api/vhosts/{vhost}": deleteVhost,
		"GET /api/vhosts/{vhost}/permissions": permissions, "GET /api/vhosts/{vhost}/topic-permissions": topicPermissions,

		"GET /api/users": listUsers, "GET /api/users/{user}": getUser, "PUT /api/users/{user}": putUser, "DELETE /api/users/{user}": deleteUser,
		"GET /api/users/{user}/permissions": permissions, "GET /api/users/{user}/topic-permissions": topicPermissions,
		"GET /api/permissions": permissions, "GET /api/permissions/{vhost}/{user}": getPermission,
		"PUT /api/permissions/{vhost}/{user}": putPermission, "DELETE /api/permissions/{vhost}/{user}": deletePermission,
		"GET /api/topic-permissions": topicPermissions, "GET /api/topic-permissions/{vhost}/{user}": topicPermissions,
		"PUT /api/topic-permissions/{vhost}/{user}": putTopicPermission, "DELETE /api/topic-permissions/{vhost}/{user}": deleteTopicPermissions,

		"GET /api/definitions": exportAll, "POST /api/definitions": importAll,
		"GET /api/definitions/{vhost}": exportVhost, "POST /api/definitions/{vhost}": importVhost,

		"GET /api/policies": nothing, "GET /api/policies/{vhost}": nothing, "GET /api/operator-policies": nothing,
		"GET /api/parameters": nothing, "GET /api/global-parameters": nothing, "GET /api/vhost-limits": nothing, "GET /api/feature-flags": nothing,

		"GET /api/aliveness-test/{vhost}": aliveness,
		"GET /api/health/checks/alarms":   healthy, "GET /api/health/checks/local-alarms": healthy, "GET /api/health/checks/virtual-hosts": healthy,
		"GET /api/health/checks/port-listener/{port}": portListener, "GET /api/health/checks/protocol-listener/{protocol}": protocolListener,
		"GET /api/health/checks/node-is-quorum-critical": notCritical, "GET /api/health/checks/node-is-mirror-sync-critical": notCritical,
	}
}
