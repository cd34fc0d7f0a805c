// Package bridge brings what arrives in topics to work queues. A record of a gateway or of
// a Kafka producer is published to the exchange amq.topic of each vhost, if a queue there
// may want it. README.md says how.
package bridge
