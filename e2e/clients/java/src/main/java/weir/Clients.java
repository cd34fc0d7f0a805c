package weir;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.TopicConfig;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The round of every client, with Kafka's own: see ../README.md. Usage: Clients HOST:PORT [classic|consumer] */
public final class Clients {
  static final String TOPIC = "java";
  static final int RECORDS = 1000;

  final String servers;
  final String protocol;

  Clients(String servers, String protocol) {
    this.servers = servers;
    this.protocol = protocol;
  }

  public static void main(String[] args) throws Exception {
    Clients clients = new Clients(args[0], args.length > 1 ? args[1] : "classic");
    try (Admin admin = Admin.create(clients.props())) {
      clients.createTopic(admin);
      clients.settings(admin);
      clients.refusedRecords(admin);
      clients.produce();
      clients.consume(admin);
      clients.transact(admin);
      clients.deleteRecords(admin);
      clients.cleanUp(admin);
    }
    System.out.println("ok");
  }

  Properties props() {
    Properties p = new Properties();
    p.put("bootstrap.servers", servers);
    return p;
  }

  void createTopic(Admin admin) throws Exception {
    NewTopic topic = new NewTopic(TOPIC, 3, (short) 1).configs(Map.of(TopicConfig.RETENTION_MS_CONFIG, "3600000"));
    admin.createTopics(List.of(topic)).all().get();
    try {
      admin.createTopics(List.of(topic)).all().get();
      throw new AssertionError("a topic was created twice");
    } catch (ExecutionException e) {
      check(e.getCause() instanceof TopicExistsException, "second creation: " + e.getCause());
    }
    admin.createPartitions(Map.of(TOPIC, NewPartitions.increaseTo(4))).all().get();
    ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, TOPIC);
    admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(
        new ConfigEntry(TopicConfig.MAX_MESSAGE_BYTES_CONFIG, "500000"), AlterConfigOp.OpType.SET)))).all().get();
    Config config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
    check(config.get(TopicConfig.RETENTION_MS_CONFIG).value().equals("3600000"), "retention.ms is " + config.get(TopicConfig.RETENTION_MS_CONFIG));
    check(config.get(TopicConfig.MAX_MESSAGE_BYTES_CONFIG).value().equals("500000"), "max.message.bytes");
    check(config.get(TopicConfig.CLEANUP_POLICY_CONFIG).isDefault(), "cleanup.policy is the default");
    check(admin.describeTopics(List.of(TOPIC)).allTopicNames().get().get(TOPIC).partitions().size() == 4, "4 partitions");
    check(!admin.describeCluster().clusterId().get().isEmpty(), "the cluster has an id");
    check(admin.describeCluster().nodes().get().size() >= 1, "the cluster has a node");
  }

  void settings(Admin admin) throws Exception {
    String node = admin.describeCluster().nodes().get().iterator().next().idString();
    ConfigResource all = new ConfigResource(ConfigResource.Type.BROKER, "");
    ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, node);
    ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, TOPIC);
    set(admin, all, "num.partitions", "5");
    set(admin, group, "consumer.session.timeout.ms", "50000");
    Map<ConfigResource, Config> configs = admin.describeConfigs(List.of(broker, group)).all().get();
    ConfigEntry partitions = configs.get(broker).get("num.partitions");
    check(partitions.value().equals("5") && partitions.source() == ConfigEntry.ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG, "num.partitions is " + partitions);
    check(configs.get(group).get("consumer.session.timeout.ms").value().equals("50000"), "the group's session time-out");
    admin.createTopics(List.of(new NewTopic(TOPIC + "-five", Optional.empty(), Optional.empty()))).all().get();
    check(admin.describeTopics(List.of(TOPIC + "-five")).allTopicNames().get().get(TOPIC + "-five").partitions().size() == 5, "5 partitions");
    admin.deleteTopics(List.of(TOPIC + "-five")).all().get();
    try {
      set(admin, broker, "node.id", "1");
      throw new AssertionError("a node has got another number");
    } catch (ExecutionException e) {
      check(e.getCause() instanceof InvalidRequestException, "node.id: " + e.getCause());
    }
  }

  void set(Admin admin, ConfigResource resource, String name, String value) throws Exception {
    admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)))).all().get();
  }

  /** Of a batch with records that a compacted topic does not take, those are named. */
  void refusedRecords(Admin admin) throws Exception {
    String topic = TOPIC + "-keys";
    admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(Map.of(TopicConfig.CLEANUP_POLICY_CONFIG, "compact")))).all().get();
    try (KafkaProducer<String, String> producer = producer(Map.of("linger.ms", 1000))) {
      List<Future<RecordMetadata>> sent = new ArrayList<>();
      for (String key : new String[] {"a", null, "b"}) {
        sent.add(producer.send(new ProducerRecord<>(topic, key, "x")));
      }
      producer.flush();
      for (int i = 0; i < sent.size(); i++) {
        try {
          sent.get(i).get();
          throw new AssertionError("record " + i + " was taken");
        } catch (ExecutionException e) {
          boolean named = e.getCause() instanceof InvalidRecordException && e.getCause().getMessage().contains("no key");
          check(named == (i == 1), "record " + i + ": " + e.getCause());
        }
      }
    }
    admin.deleteTopics(List.of(topic)).all().get();
  }

  KafkaProducer<String, String> producer(Map<String, Object> more) {
    Properties p = props();
    p.put("key.serializer", StringSerializer.class.getName());
    p.put("value.serializer", StringSerializer.class.getName());
    p.putAll(more);
    return new KafkaProducer<>(p);
  }

  KafkaConsumer<String, String> consumer(String group, Map<String, Object> more) {
    Properties p = props();
    p.put("key.deserializer", StringDeserializer.class.getName());
    p.put("value.deserializer", StringDeserializer.class.getName());
    p.put("group.id", group);
    p.put("group.protocol", protocol);
    p.put("enable.auto.commit", "false");
    p.put("auto.offset.reset", "earliest");
    p.putAll(more);
    return new KafkaConsumer<>(p);
  }

  void produce() throws Exception {
    int n = 0;
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      try (KafkaProducer<String, String> producer = producer(Map.of("compression.type", codec, "linger.ms", "5"))) {
        Future<RecordMetadata> last = null;
        for (int i = 0; i < RECORDS / 5; i++, n++) {
          last = producer.send(new ProducerRecord<>(TOPIC, "key-" + n % 50, "value-" + n));
        }
        check(last.get().hasOffset(), "an acknowledged record has an offset");
      }
    }
  }

  /** Two members of a group see each record once, in order of each key; what they commit is found again. */
  void consume(Admin admin) throws Exception {
    String group = "java-" + protocol;
    Map<String, Integer> last = new HashMap<>();
    int seen = 0;
    try (KafkaConsumer<String, String> a = consumer(group, Map.of()); KafkaConsumer<String, String> b = consumer(group, Map.of())) {
      a.subscribe(List.of(TOPIC));
      b.subscribe(List.of(TOPIC));
      for (long end = System.nanoTime() + Duration.ofSeconds(60).toNanos(); seen < RECORDS || a.assignment().isEmpty() || b.assignment().isEmpty(); ) {
        check(System.nanoTime() < end, seen + " records; members have " + a.assignment() + " and " + b.assignment());
        for (KafkaConsumer<String, String> c : List.of(a, b)) {
          for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(100))) {
            int number = Integer.parseInt(r.value().substring("value-".length()));
            Integer before = last.put(r.key(), number);
            check(before == null || before < number, r.key() + ": " + number + " after " + before);
            seen++;
          }
          c.commitSync();
        }
      }
      check(seen == RECORDS, seen + " records");
      check(admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().size() == 2, "two members are described");
    }
    long committed = 0;
    for (OffsetAndMetadata o : admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values()) {
      committed += o.offset();
    }
    check(committed == RECORDS, "committed offsets add up to " + committed);
    check(admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)), "the group is listed");
  }

  /** One transaction commits, one aborts, and one moves records with the group's offsets. */
  void transact(Admin admin) throws Exception {
    admin.createTopics(List.of(new NewTopic("java-tx", 2, (short) 1), new NewTopic("java-moved", 1, (short) 1))).all().get();
    try (KafkaProducer<String, String> p = producer(Map.of("transactional.id", "java-1"))) {
      p.initTransactions();
      for (int round = 0; round < 6; round++) {
        p.beginTransaction();
        for (int i = 0; i < 10; i++) {
          p.send(new ProducerRecord<>("java-tx", i % 2, "k", (round % 2 == 0 ? "kept-" : "gone-") + round + "-" + i));
        }
        p.flush();
        if (round % 2 == 0) {
          p.commitTransaction();
        } else {
          p.abortTransaction();
        }
      }
      move(p);
    }
    Set<String> kept = readAll("java-tx", Map.of("isolation.level", "read_committed"), 30);
    check(kept.stream().allMatch(v -> v.startsWith("kept-")), "read_committed sees " + kept);
    check(readAll("java-tx", Map.of("isolation.level", "read_uncommitted"), 60).size() == 60, "read_uncommitted sees all");
    check(readAll("java-moved", Map.of("isolation.level", "read_committed"), 30).size() == 30, "what was moved");
    check(admin.listTransactions().all().get().stream().anyMatch(t -> t.transactionalId().equals("java-1")), "the transaction is listed");
    check(admin.describeTransactions(List.of("java-1")).description("java-1").get().producerId() >= 0, "and described");
    fence();
  }

  void move(KafkaProducer<String, String> p) {
    try (KafkaConsumer<String, String> c = consumer("java-mover", Map.of("isolation.level", "read_committed"))) {
      c.subscribe(List.of("java-tx"));
      int moved = 0;
      for (long end = System.nanoTime() + Duration.ofSeconds(60).toNanos(); moved < 30; ) {
        check(System.nanoTime() < end, "moved " + moved);
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        var records = c.poll(Duration.ofMillis(200));
        if (records.isEmpty()) {
          continue;
        }
        p.beginTransaction();
        for (ConsumerRecord<String, String> r : records) {
          p.send(new ProducerRecord<>("java-moved", "k", "moved-" + r.value()));
          offsets.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
          moved++;
        }
        p.sendOffsetsToTransaction(offsets, c.groupMetadata());
        p.commitTransaction();
      }
      check(moved == 30, "moved " + moved);
      long behind = 0;
      Set<TopicPartition> assigned = c.assignment();
      for (OffsetAndMetadata o : c.committed(assigned).values()) {
        behind += o == null ? 0 : o.offset();
      }
      check(behind > 0, "the moved offsets are committed");
    }
  }

  /** A second producer of the same id fences the first. */
  void fence() {
    try (KafkaProducer<String, String> old = producer(Map.of("transactional.id", "java-2")); KafkaProducer<String, String> next = producer(Map.of("transactional.id", "java-2"))) {
      old.initTransactions();
      old.beginTransaction();
      old.send(new ProducerRecord<>("java-tx", "k", "gone-fenced"));
      old.flush();
      next.initTransactions();
      try {
        old.commitTransaction();
        throw new AssertionError("a fenced producer committed");
      } catch (org.apache.kafka.common.KafkaException e) {
        check(true, "");
      }
    }
    check(readAll("java-tx", Map.of("isolation.level", "read_committed"), 30).size() == 30, "nothing of a fenced producer");
  }

  /** All values of a topic, read to its end without a group. */
  Set<String> readAll(String topic, Map<String, Object> more, int atLeast) {
    Set<String> values = new HashSet<>();
    try (KafkaConsumer<String, String> c = consumer("java-reader", more)) {
      Collection<TopicPartition> partitions = c.partitionsFor(topic).stream().map(i -> new TopicPartition(topic, i.partition())).toList();
      c.assign(partitions);
      c.seekToBeginning(partitions);
      Map<TopicPartition, Long> ends = c.endOffsets(partitions);
      for (long end = System.nanoTime() + Duration.ofSeconds(60).toNanos(); partitions.stream().anyMatch(p -> c.position(p) < ends.get(p)); ) {
        check(System.nanoTime() < end, topic + ": not at the end, " + values.size() + " values");
        for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(100))) {
          check(values.add(r.value()), r.value() + " twice");
        }
      }
    }
    check(values.size() >= atLeast, topic + ": " + values.size() + " values");
    return values;
  }

  void deleteRecords(Admin admin) throws Exception {
    TopicPartition p = new TopicPartition(TOPIC, 0);
    admin.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(5))).all().get();
    long first = admin.listOffsets(Map.of(p, OffsetSpec.earliest())).partitionResult(p).get().offset();
    check(first == 5, "the first offset is " + first);
  }

  void cleanUp(Admin admin) throws Exception {
    admin.deleteConsumerGroups(List.of("java-" + protocol)).all().get();
    admin.deleteTopics(List.of(TOPIC, "java-tx", "java-moved")).all().get();
    try {
      admin.describeTopics(List.of(TOPIC)).allTopicNames().get();
      throw new AssertionError("a deleted topic is described");
    } catch (ExecutionException e) {
      check(e.getCause() instanceof UnknownTopicOrPartitionException, "deleted topic: " + e.getCause());
    }
  }

  static void check(boolean ok, String what) {
    if (!ok) {
      throw new AssertionError(what);
    }
  }
}
