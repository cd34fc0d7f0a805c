package properties

// Loss is why a value of a record is not in the message made of it, or the reverse.
type Loss uint8

// The losses that are counted.
const (
	LostDuplicate Loss = iota + 1 // a second header of one name
	LostName                      // a header whose name is longer than 255 bytes
	LostSpace                     // a header beyond what a frame of AMQP has room for
	LostValue                     // a header that stands for a property, with a value that this cannot have
	LostKey                       // the end of a routing key of more than 255 bytes
	LostType                      // the type of a value: it does not look like what weir.types says
	losses
)

// String returns the loss as it stands in the label of a metric.
func (l Loss) String() string {
	return [losses]string{"", "duplicate", "name", "space", "value", "key", "type"}[l]
}

// Losses returns all that are counted.
func Losses() []Loss {
	var all []Loss
	for l := LostDuplicate; l < losses; l++ {
		all = append(all, l)
	}
	return all
}

// way is a conversion from one form of a message to another.
type way string

const (
	mqttToAMQP  way = "MQTT → AMQP"
	kafkaToAMQP way = "Kafka → AMQP"
	amqpToKafka way = "AMQP → Kafka"
)

// lossTable is everything that does not come back as it was. What is not in it does.
var lossTable = [...]struct {
	ways    []way
	what    string
	becomes string
	counted Loss // 0: no
}{
	{[]way{mqttToAMQP, kafkaToAMQP}, "headers of one name after the first", "dropped: a table has each name once", LostDuplicate},
	{[]way{mqttToAMQP, kafkaToAMQP}, "header with a name of more than 255 bytes", "dropped", LostName},
	{[]way{mqttToAMQP, kafkaToAMQP}, "headers beyond 100,000 bytes", "dropped: the properties must fit into a frame", LostSpace},
	{[]way{mqttToAMQP, kafkaToAMQP}, "`x-priority` that is not 0 to 255", "dropped", LostValue},
	{[]way{kafkaToAMQP}, "`weir.ttl-ms`, `weir.timestamp` or `weir.delivery-mode` that is no such number; a null in a header that stands for a property", "dropped", LostValue},
	{[]way{mqttToAMQP}, "Message Expiry Interval of more than 49 days", "dropped: RabbitMQ allows no longer one", LostValue},
	{[]way{mqttToAMQP, kafkaToAMQP}, "MQTT topic of more than 255 bytes", "the routing key is its first levels; header `weir.mqtt-topic` has all of it", LostKey},
	{[]way{mqttToAMQP, kafkaToAMQP}, "MQTT topic with `.`, `*` or `#` in a level", "the routing key cannot say so; header `weir.mqtt-topic` has it", 0},
	{[]way{mqttToAMQP, kafkaToAMQP}, "property of more than 255 bytes", "header of the record's name for it", 0},
	{[]way{kafkaToAMQP}, "`weir.user-id`", "header `weir.user-id`: the property user-id is what a broker has checked", 0},
	{[]way{kafkaToAMQP}, "value that does not look like the type in `weir.types`", "text", LostType},
	{[]way{mqttToAMQP, kafkaToAMQP}, "header `x-key`", "the key of a record made of the message; dropped if the record's own key is one", LostDuplicate},
	{[]way{mqttToAMQP, kafkaToAMQP}, "header `BCC`, or `weir.null-value`", "dropped, renamed in a record made of the message", 0},
	{[]way{kafkaToAMQP}, "null key, then published to an exchange that is not the default one", "the routing key, or its MQTT topic", 0},
	{[]way{kafkaToAMQP}, "time of the record", "property timestamp in seconds, header `timestamp_in_ms`; a record made of the message has a time of its own", 0},
	{[]way{amqpToKafka}, "header BCC", "dropped: readers must not see it", 0},
	{[]way{amqpToKafka}, "which NaN a NaN is; a bool other than 0 or 1", "NaN; 1", 0},
	{[]way{amqpToKafka}, "name in a nested table that is not UTF-8", "with U+FFFD", 0},
	{[]way{amqpToKafka}, "empty header table", "none", 0},
}
