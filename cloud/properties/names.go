package properties

import "strings"

// Names of record headers that stand for what a protocol has a field for. Those that a
// user may set in an MQTT user property do not begin with "weir.": a gateway leaves such
// properties out.
const (
	headerContentType     = "content-type"
	headerContentEncoding = "weir.content-encoding"
	headerDeliveryMode    = "weir.delivery-mode"
	headerPriority        = "x-priority"
	headerCorrelationID   = "weir.correlation-id"
	headerReplyTo         = "weir.reply-to"
	headerTTL             = "weir.ttl-ms"
	headerMessageID       = "weir.message-id"
	headerTimestamp       = "weir.timestamp" // seconds since 1970, as the publisher says
	headerType            = "weir.type"
	headerUserID          = "weir.user-id"
	headerAppID           = "weir.app-id"
	headerClusterID       = "weir.cluster-id"

	headerMQTTTopic  = "weir.mqtt-topic" // absent if it is the record's key
	headerClient     = "weir.client"     // of what a gateway sends: the device
	headerGateway    = "weir.gateway"
	headerQoS        = "weir.qos"
	headerVhost      = "weir.amqp-vhost" // the vhost that a record comes from
	headerExchange   = "weir.exchange"
	headerRoutingKey = "weir.routing-key"
	headerTypes      = "weir.types" // see types
)

// headerPrefix precedes the name of an AMQP header that would look like one of the names
// above.
const headerPrefix = "weir.header."

// Names in the header table of a message.
const (
	tableKey     = "x-key"           // the record's key
	tableDelay   = "x-delay"         // milliseconds
	tableTimeMS  = "timestamp_in_ms" // the record's time, as RabbitMQ's interceptor names it
	tableNull    = "weir.null-value" // true: the record's value is null
	tableCC      = "CC"              // further routing keys
	tableBCC     = "BCC"             // consumers must not see it
	tableCacheMS = "x-cache-ttl"     // milliseconds
)

// reserved reports whether a name in a header table has headerPrefix as a record header.
func reserved(name string) bool {
	switch name {
	case headerContentType, headerContentEncoding, headerDeliveryMode, headerPriority, headerCorrelationID, headerReplyTo,
		headerTTL, headerMessageID, headerTimestamp, headerType, headerUserID, headerAppID, headerClusterID,
		headerMQTTTopic, headerVhost, headerExchange, headerRoutingKey, headerTypes,
		tableKey, tableNull:
		return true
	}
	rest, ok := strings.CutPrefix(name, headerPrefix)
	return ok && reserved(rest)
}

// unescape returns the name in a header table of a record header.
func unescape(name string) string {
	if rest, ok := strings.CutPrefix(name, headerPrefix); ok && reserved(rest) {
		return rest
	}
	return name
}
