package exposition

import "maps"

// Catalogue returns all families, by name. A test in configs compares it with the names
// in the source.
func Catalogue() map[string]Family {
	all := process()
	maps.Copy(all, shared())
	maps.Copy(all, cloud())
	maps.Copy(all, edge())
	return all
}

// shared are those of both programs.
func shared() map[string]Family {
	return map[string]Family{
		"weir_budget_used_bytes":      {Gauge, "Bytes of a pool of memory that are in use."},
		"weir_budget_waiting_seconds": {Histogram, "How long somebody waited because a pool was short; those who did not wait are not counted."},
		"weir_http_refused_total":     {Counter, "Requests to the admin port that were refused, by reason."},
	}
}

// cloud are those of weir-cloud.
func cloud() map[string]Family {
	return map[string]Family{
		"weir_amqp_errors_total":             {Counter, "Connections and channels of AMQP clients that were closed because of a mistake."},
		"weir_amqp_logins_failed_total":      {Counter, "Logins of AMQP clients that failed."},
		"weir_amqp_messages_delivered_total": {Counter, "Messages that were delivered to AMQP clients."},
		"weir_amqp_messages_published_total": {Counter, "Messages that AMQP clients published, durable in a queue."},
		"weir_amqp_methods_total":            {Counter, "Methods that AMQP clients sent on channels."},

		"weir_bridge_lag_records":             {Gauge, "Records in topics that have yet to be read for work queues, those of a topic once for each vhost."},
		"weir_bridge_records_missed_total":    {Counter, "Records that retention deleted before they were read for work queues."},
		"weir_bridge_records_published_total": {Counter, "Records of topics that are durable in work queues, counted once in each vhost."},
		"weir_bridge_records_read_total":      {Counter, "Records of topics that were read to see whether work queues want them."},
		"weir_bridge_records_refused_total":   {Counter, "Records that a work queue refused, by reason: it is full, or they cannot be messages."},
		"weir_bridge_values_lost_total":       {Counter, "Headers of records that a message of a work queue cannot have, by loss."},

		"weir_bucket_bytes_total":     {Counter, "Bytes of objects that were created in the bucket, or read from it."},
		"weir_bucket_request_seconds": {Histogram, "How long a call of the bucket took, tries after a failure included."},
		"weir_bucket_requests_total":  {Counter, "Calls of the bucket, by operation and result."},

		"weir_catalogue_age_seconds": {Gauge, "How old the copy of the catalogue (users, permissions, topics) is that a node has from its owner, or how long it has had none; 0 on the owner."},

		"weir_door_connections":                {Gauge, "Connections that are open, by door and listener."},
		"weir_door_connections_gave_way_total": {Counter, "Connections that had not logged in and were closed in favour of newer ones."},
		"weir_door_connections_refused_total":  {Counter, "Connections that were closed at once, since there are too many."},
		"weir_door_connections_total":          {Counter, "Connections that were let in."},
		"weir_door_errors_total":               {Counter, "Errors in answers, and connections that were closed because of what the client sent."},
		"weir_door_received_bytes_total":       {Counter, "Bytes that came from clients."},
		"weir_door_requests_total":             {Counter, "Requests of clients."},
		"weir_door_sent_bytes_total":           {Counter, "Bytes that were sent to clients."},

		"weir_gap_records_total":                   {Counter, "Records that gateways reported as lost (topic weir.gaps)."},
		"weir_gateway_buffered_records":            {Gauge, "Records that a gateway holds and the cloud does not, as of its last contact."},
		"weir_gateway_certificate_expires_seconds": {Gauge, "Seconds until the certificate of a gateway ends; it renews itself long before."},
		"weir_gateway_connected":                   {Gauge, "1 if a gateway is connected, 0 if it is away."},
		"weir_gateway_last_contact_seconds":        {Gauge, "Seconds since a gateway was last heard of."},
		"weir_gateway_lost_records_total":          {Counter, "Records that a gateway has reported as lost (topic weir.gaps) since it joined; written to the log every five minutes."},
		"weir_gateway_oldest_seconds":              {Gauge, "Age of the oldest record that a gateway holds and the cloud does not; 0 if there is none."},
		"weir_gateways":                            {Gauge, "Gateways that have joined, by state."},
		"weir_gateways_omitted":                    {Gauge, "Gateways that have no metrics of their own (--gateway-series)."},

		"weir_group_lag_omitted_pairs": {Gauge, "Pairs of a group and a topic whose lag is not shown."},
		"weir_group_lag_unknown_pairs": {Gauge, "Pairs of a group and a topic whose lag is not known, since a node that leads a partition does not answer."},
		"weir_group_lag_records":       {Gauge, "Records by which a group is behind in a topic."},
		"weir_group_members":           {Gauge, "Members of all groups."},
		"weir_groups":                  {Gauge, "Consumer groups, by state."},

		"weir_share_group_acquired_records":   {Gauge, "Records of a topic that members of a share group have acquired."},
		"weir_share_group_dead_letters_total": {Counter, "Records that a share group with a dead-letter topic has given up, by whether they are there."},
		"weir_share_group_lag_records":        {Gauge, "Records of a topic that a share group has not done."},
		"weir_share_group_omitted_pairs":      {Gauge, "Pairs of a share group and a topic that are not shown."},
		"weir_share_group_records_total":      {Counter, "Records that a share group has done, by how they ended."},

		"weir_kafka_connections":                {Gauge, "Kafka connections that are open."},
		"weir_kafka_connections_gave_way_total": {Counter, "Kafka connections that had not logged in and were closed in favour of newer ones."},
		"weir_kafka_connections_refused_total":  {Counter, "Kafka connections that were closed at once, since there are too many."},
		"weir_kafka_connections_total":          {Counter, "Kafka connections that were let in."},
		"weir_kafka_errors_total":               {Counter, "Error codes in answers to Kafka clients."},
		"weir_kafka_fetched_bytes_total":        {Counter, "Bytes of record batches that Kafka clients fetched."},
		"weir_kafka_logins_failed_total":        {Counter, "Logins of Kafka clients that failed, by mechanism."},
		"weir_kafka_polls_cut_total":            {Counter, "Long polls that were answered at once, since there was no memory for them to wait."},
		"weir_kafka_produced_bytes_total":       {Counter, "Bytes of record batches that Kafka clients wrote durably."},
		"weir_kafka_produced_records_total":     {Counter, "Records that Kafka clients wrote durably."},
		"weir_kafka_protocol_errors_total":      {Counter, "Kafka connections that were closed because of what the client sent."},
		"weir_kafka_request_seconds":            {Histogram, "From a Kafka request until its answer can be sent, without long polls."},
		"weir_kafka_requests_total":             {Counter, "Requests of Kafka clients, by operation."},
		"weir_kafka_throttled_seconds_total":    {Counter, "How long Kafka clients were made to wait by quotas."},

		"weir_node_certificate_expires_seconds": {Gauge, "Seconds until the certificate of this node for --peer ends; it renews itself when half of its life is over."},

		"weir_peer_up": {Gauge, "1 if another node of the cluster answers this one, 0 if it does not; by node. One that is gone is there for some minutes."},

		"weir_segment_cache_bytes":        {Gauge, "Bytes of segments in memory."},
		"weir_segment_cache_hits_total":   {Counter, "Blocks of segments that were found in memory."},
		"weir_segment_cache_misses_total": {Counter, "Blocks of segments that were read from the bucket."},
		"weir_segment_read_bytes_total":   {Counter, "Bytes of segments that were read from the bucket."},

		"weir_shard_ack_seconds":             {Histogram, "From a record batch that arrived until it is durable in the bucket."},
		"weir_shard_bytes_total":             {Counter, "Bytes of record batches that were appended to a shard since this node owns it."},
		"weir_shard_records_total":           {Counter, "Records that were appended to a shard since this node owns it."},
		"weir_shard_checkpoint_age_seconds":  {Gauge, "Seconds since the newest checkpoint."},
		"weir_shard_damaged_pieces":          {Gauge, "Pieces of the log that are damaged or missing."},
		"weir_shard_epoch":                   {Gauge, "Epoch of the ownership of the log: it grows with each takeover."},
		"weir_shard_garbage_segments":        {Gauge, "Segments that nothing refers to and that are not deleted yet."},
		"weir_shard_owned_seconds":           {Gauge, "For how long this node has owned the log."},
		"weir_shard_moves_total":             {Counter, "Shards that this node got, by reason: first, handover, takeover, ended, revoked, restart, kept."},
		"weir_shard_recovery_seconds":        {Histogram, "From the claim of a shard until its log is recovered."},
		"weir_shard_segments":                {Gauge, "Segments of the log."},
		"weir_shard_throttled_seconds_total": {Counter, "How long writers were held back because the upkeep of the log is behind."},
		"weir_shard_unsegmented_bytes":       {Gauge, "Bytes of the log that are not yet in segments behind a checkpoint."},

		"weir_shards": {Gauge, "Shards that this node has to do with, by state: owner, recovering, doubt (the bucket does not answer), handing (to another node), failing (it could not lead them)."},

		"weir_cluster_shards":           {Gauge, "Shards of the cluster, as far as this node knows."},
		"weir_slices_moved_total":       {Counter, "Slices that have moved from a shard of this node to a new one."},
		"weir_slice_moves_failed_total": {Counter, "Moves of slices from a shard of this node that were given up."},

		"weir_stream_values_lost_total": {Counter, "Values of records and messages that stream queues could not pass on, by loss."},

		"weir_sync_append_bytes_total":    {Counter, "Bytes of record batches that gateways sent."},
		"weir_sync_appends_total":         {Counter, "Record batches that gateways sent."},
		"weir_sync_protocol_errors_total": {Counter, "Sessions of gateways that were closed because of what they sent."},
		"weir_sync_refused_total":         {Counter, "Record batches of gateways that were refused, by reason."},
		"weir_sync_sessions":              {Gauge, "Gateways that are connected to this node."},

		"weir_handovers_total": {Counter, "Shards that this node has handed over to another one."},

		"weir_takeovers_total":               {Counter, "Shards that this node has taken over from a silent owner."},
		"weir_takeover_answers_total":        {Counter, "Questions of standbys that this node answered through the bucket."},
		"weir_takeover_question_looks_total": {Counter, "Looks for questions of standbys in the bucket."},
		"weir_takeover_questions_total":      {Counter, "Questions to the owner that this node put into the bucket."},
		"weir_takeover_withheld_total":       {Counter, "Takeovers that this node did not begin, by reason."},

		"weir_transactions_open":  {Gauge, "Transactions that have not ended."},
		"weir_transactions_total": {Counter, "Transactions that have ended, by how."},
	}
}

// edge are those of weir-edge.
func edge() map[string]Family {
	return map[string]Family{
		"weir_edge_buffer_bytes":                  {Gauge, "Bytes that the local log takes on the disk."},
		"weir_edge_buffer_records":                {Gauge, "Records in the local log that are not durable in the cloud."},
		"weir_edge_connected":                     {Gauge, "1 while there is a session with the cloud."},
		"weir_edge_dead_records":                  {Gauge, "Dead letters that are kept."},
		"weir_edge_disk_free_bytes":               {Gauge, "Free bytes of the disk; -1 if that is not known."},
		"weir_edge_lane_refusing":                 {Gauge, "1 while messages of a lane are refused for want of room."},
		"weir_edge_oldest_unacked_seconds":        {Gauge, "Age of the oldest record that is not durable in the cloud."},
		"weir_edge_refused_messages_total":        {Counter, "Messages that were refused for want of room, by lane and cause."},
		"weir_edge_refused_letters":               {Gauge, "Messages that were refused for good and are kept as letters."},
		"weir_edge_refused_letters_evicted_total": {Counter, "Refused letters that made room for newer ones since the start."},
		"weir_edge_reserved_properties_total":     {Counter, "User properties of devices that were left out of records, since their names are Weir's."},
		"weir_edge_unrouted_messages_total":       {Counter, "Messages that went to topic unrouted because of the limit of topics, or because their topic is like another one."},
		"weir_edge_sync_refused":                  {Gauge, "1 for the reason for which the cloud does not take this gateway's records."},
		"weir_edge_sync_state":                    {Gauge, "1 for the state of the sync."},

		"weir_mqtt_bytes_received_total":        {Counter, "Bytes of packets of devices."},
		"weir_mqtt_connections":                 {Gauge, "MQTT connections that are open."},
		"weir_mqtt_connections_gave_way_total":  {Counter, "MQTT connections that had not logged in and were closed in favour of newer ones."},
		"weir_mqtt_connections_refused_total":   {Counter, "MQTT connections that were closed at once, since there are too many."},
		"weir_mqtt_connections_total":           {Counter, "MQTT connections that were let in."},
		"weir_mqtt_messages_dropped_total":      {Counter, "Deliveries to subscribers that were given up, by reason."},
		"weir_mqtt_messages_not_allowed_total":  {Counter, "Messages that a device was not allowed to publish."},
		"weir_mqtt_messages_not_retained_total": {Counter, "Retained messages that were not kept for want of room."},
		"weir_mqtt_messages_received_total":     {Counter, "Messages that devices published."},
		"weir_mqtt_messages_refused_total":      {Counter, "Messages of devices that were not stored."},
		"weir_mqtt_messages_sent_total":         {Counter, "Messages that were sent to subscribers."},
		"weir_mqtt_messages_stored_total":       {Counter, "Messages of devices that are durable on this gateway, wills included."},
		"weir_mqtt_packets_received_total":      {Counter, "Packets of devices."},
		"weir_mqtt_protocol_errors_total":       {Counter, "MQTT connections that were closed because of what the device sent."},
		"weir_mqtt_queue_messages":              {Gauge, "Messages that wait for the disk."},
		"weir_mqtt_owed_bytes":                  {Gauge, "Bytes on the disk of messages that wait for sessions which outlive their connection."},
		"weir_mqtt_owed_lost_total":             {Counter, "Messages that such sessions were owed and that a damaged disk has lost."},
		"weir_mqtt_refused_letters_total":       {Counter, "Messages that were refused for good and became refused letters."},
		"weir_mqtt_retained_messages":           {Gauge, "Retained messages."},
		"weir_mqtt_sessions":                    {Gauge, "Sessions of devices, connected or kept."},
		"weir_mqtt_sessions_ended_total":        {Counter, "Sessions without a connection that ended, by reason."},
		"weir_mqtt_state_bytes":                 {Gauge, "Bytes of what is remembered of devices."},
		"weir_mqtt_store_seconds":               {Histogram, "How long it took to make a batch of messages durable."},
		"weir_mqtt_subscriptions":               {Gauge, "Subscriptions of devices."},
		"weir_mqtt_subscriptions_refused_total": {Counter, "Subscriptions that were refused for want of room."},
		"weir_mqtt_takeovers_total":             {Counter, "Connections that ended because another came under the same client id."},
		"weir_mqtt_unauthenticated_total":       {Counter, "Logins of devices that failed."},

		"weir_sync_buried_records_total": {Counter, "Records that the cloud refused for good and that became dead letters."},
		"weir_sync_clock_ahead_seconds":  {Gauge, "How far this machine's clock is ahead of the cloud's; negative: behind."},
		"weir_sync_connected":            {Gauge, "1 while there is a session with the cloud; as weir_edge_connected."},
		"weir_sync_dials_total":          {Counter, "Attempts to reach the cloud."},
		"weir_sync_refusals_total":       {Counter, "Refusals that the cloud sent, by reason."},
		"weir_sync_sent_bytes_total":     {Counter, "Bytes of record batches that were sent."},
		"weir_sync_sent_gaps_total":      {Counter, "Reports of lost records that were sent."},
		"weir_sync_sent_records_total":   {Counter, "Records that were sent, those sent again included."},
	}
}

// process are the useful ones of the Go runtime and the process. The others depend on
// the kernel, or have a name that promtool refuses.
func process() map[string]Family {
	return map[string]Family{
		"go_gc_cpu_seconds_total":             {Counter, "CPU time of garbage collection."},
		"go_gc_duration_seconds":              {Summary, "Pauses of garbage collections."},
		"go_gomaxprocs":                       {Gauge, "Cores that the program uses."},
		"go_goroutines":                       {Gauge, "Goroutines."},
		"go_info":                             {Gauge, "1; the label is the version of Go."},
		"go_memlimit_bytes":                   {Gauge, "Memory limit of the Go runtime (GOMEMLIMIT)."},
		"go_memstats_alloc_bytes":             {Gauge, "Bytes of objects on the heap."},
		"go_memstats_alloc_bytes_total":       {Counter, "Bytes of objects that were put on the heap."},
		"go_memstats_heap_alloc_bytes":        {Gauge, "Bytes of objects on the heap, those that are not collected yet included."},
		"go_memstats_heap_idle_bytes":         {Gauge, "Bytes of the heap that are not in use."},
		"go_memstats_heap_inuse_bytes":        {Gauge, "Bytes of the heap that are in use."},
		"go_memstats_heap_objects":            {Gauge, "Objects on the heap."},
		"go_memstats_heap_released_bytes":     {Gauge, "Bytes of the heap that were given back to the system."},
		"go_memstats_heap_sys_bytes":          {Gauge, "Bytes that the heap has from the system."},
		"go_memstats_last_gc_time_seconds":    {Gauge, "When the last garbage collection ended, in seconds since 1970."},
		"go_memstats_mallocs_total":           {Counter, "Objects that were put on the heap."},
		"go_memstats_next_gc_bytes":           {Gauge, "Size of the heap at which the next garbage collection begins."},
		"go_memstats_stack_inuse_bytes":       {Gauge, "Bytes of stacks."},
		"go_memstats_sys_bytes":               {Gauge, "Bytes that the Go runtime has from the system."},
		"go_threads":                          {Gauge, "Threads that the Go runtime has made."},
		"process_cpu_seconds_total":           {Counter, "CPU time of the process."},
		"process_io_storage_read_bytes_total": {Counter, "Bytes that the process had read from disks."},
		"process_io_storage_written_bytes_total": {Counter,
			"Bytes that the process had written to disks."},
		"process_major_pagefaults_total":     {Counter, "Page faults that waited for a disk."},
		"process_max_fds":                    {Gauge, "Files and sockets that the process may have open."},
		"process_num_threads":                {Gauge, "Threads of the process."},
		"process_open_fds":                   {Gauge, "Files and sockets that the process has open."},
		"process_resident_memory_bytes":      {Gauge, "Memory of the process."},
		"process_resident_memory_peak_bytes": {Gauge, "The most memory that the process has had."},
		"process_start_time_seconds":         {Gauge, "When the process began, in seconds since 1970."},
		"process_virtual_memory_bytes":       {Gauge, "Address space of the process."},
		"process_resident_memory_anon_bytes": {Gauge, "Memory of the process that belongs to no file."},
		"process_resident_memory_file_bytes": {Gauge, "Memory of the process that belongs to files."},
		"process_io_read_syscalls_total":     {Counter, "System calls that read."},
		"process_io_write_syscalls_total":    {Counter, "System calls that wrote."},
		"process_cpu_seconds_system_total":   {Counter, "CPU time of the process in the kernel."},
		"process_cpu_seconds_user_total":     {Counter, "CPU time of the process outside of the kernel."},
		"go_sched_latencies_seconds":         {Histogram, "How long goroutines that could run waited for a core."},
		"process_minor_pagefaults_total":     {Counter, "Page faults that did not wait for a disk."},
		"process_io_read_bytes_total":        {Counter, "Bytes that the process has read, from sockets and caches too."},
		"process_io_written_bytes_total":     {Counter, "Bytes that the process has written, to sockets and caches too."},
		"process_virtual_memory_peak_bytes":  {Gauge, "The most address space that the process has had."},
		"process_resident_memory_shared_bytes": {Gauge,
			"Memory of the process that is shared with others."},
	}
}
