package weir;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ShareGroupDescription;
import org.apache.kafka.clients.admin.SharePartitionOffsetInfo;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** A round of Kafka's own share consumer (KIP-932): see ../README.md. Usage: Shares HOST:PORT */
public final class Shares {
  static final String TOPIC = "shared";
  static final String GROUP = "java-share";
  static final int RECORDS = 500;

  final String servers;

  Shares(String servers) {
    this.servers = servers;
  }

  public static void main(String[] args) throws Exception {
    Shares shares = new Shares(args[0]);
    try (Admin admin = Admin.create(shares.props())) {
      admin.createTopics(List.of(new NewTopic(TOPIC, 2, (short) 1))).all().get();
      ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, GROUP);
      admin.incrementalAlterConfigs(Map.of(group, List.of(
          new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET)))).all().get();
      shares.produce();
      shares.explicit(admin);
      shares.implicit(admin);
    }
    System.out.println("ok");
  }

  Properties props() {
    Properties p = new Properties();
    p.put("bootstrap.servers", servers);
    return p;
  }

  void produce() {
    Properties p = props();
    p.put("key.serializer", StringSerializer.class.getName());
    p.put("value.serializer", StringSerializer.class.getName());
    try (KafkaProducer<String, String> producer = new KafkaProducer<>(p)) {
      for (int i = 0; i < RECORDS; i++) {
        producer.send(new ProducerRecord<>(TOPIC, i % 2, null, "v" + i));
      }
      producer.flush();
    }
  }

  KafkaShareConsumer<String, String> consumer(String mode) {
    Properties p = props();
    p.put("group.id", GROUP);
    p.put("share.acknowledgement.mode", mode);
    p.put("max.poll.records", "50");
    p.put("key.deserializer", StringDeserializer.class.getName());
    p.put("value.deserializer", StringDeserializer.class.getName());
    KafkaShareConsumer<String, String> c = new KafkaShareConsumer<>(p);
    c.subscribe(List.of(TOPIC));
    return c;
  }

  /** Two members: each record is accepted once; every tenth is released first, and every hundredth rejected. */
  void explicit(Admin admin) throws Exception {
    Map<String, Integer> deliveries = new HashMap<>();
    int done = 0;
    try (KafkaShareConsumer<String, String> a = consumer("explicit"); KafkaShareConsumer<String, String> b = consumer("explicit")) {
      long deadline = System.currentTimeMillis() + 60_000;
      while (done < RECORDS) {
        check(System.currentTimeMillis() < deadline, done + " of " + RECORDS + " records are done");
        for (KafkaShareConsumer<String, String> c : List.of(a, b)) {
          List<String> accepted = new ArrayList<>();
          for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(200))) {
            int n = deliveries.merge(r.value(), 1, Integer::sum);
            check(r.deliveryCount().get() >= n, r.value() + ": delivery " + n + " has count " + r.deliveryCount().get());
            int i = Integer.parseInt(r.value().substring(1));
            if (i % 10 == 0 && n == 1) {
              c.acknowledge(r, AcknowledgeType.RELEASE);
            } else {
              c.acknowledge(r, i % 100 == 0 ? AcknowledgeType.REJECT : AcknowledgeType.ACCEPT);
              accepted.add(r.value());
            }
          }
          c.commitSync().forEach((p, e) -> check(e.isEmpty(), p + ": " + e));
          done += accepted.size();
        }
      }
      ShareGroupDescription d = admin.describeShareGroups(List.of(GROUP)).all().get().get(GROUP);
      check(d.groupState() == GroupState.STABLE && d.members().size() == 2, "the group is " + d);
      check(done == RECORDS && deliveries.size() == RECORDS, done + " records are done, " + deliveries.size() + " were delivered");
      for (int i = 0; i < RECORDS; i += 10) {
        check(deliveries.get("v" + i) == 2, "v" + i + " was released and delivered " + deliveries.get("v" + i) + " times");
      }
    }
    boolean listed = false;
    for (GroupListing g : admin.listGroups(new ListGroupsOptions().withTypes(java.util.Set.of(GroupType.SHARE))).all().get()) {
      listed |= g.groupId().equals(GROUP) && g.groupState().get() == GroupState.EMPTY;
    }
    check(listed, "the group is not listed");
    offsets(admin, RECORDS / 2);
  }

  void offsets(Admin admin, long want) throws Exception {
    Map<TopicPartition, SharePartitionOffsetInfo> at = admin.listShareGroupOffsets(Map.of(GROUP, new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo(GROUP).get();
    check(at.size() == 2, "offsets of " + at);
    at.forEach((p, o) -> check(o.startOffset() == want, p + " is at " + o.startOffset() + ", want " + want));
  }

  /** The group begins anew, and a member accepts all with its next poll. */
  void implicit(Admin admin) throws Exception {
    admin.alterShareGroupOffsets(GROUP, Map.of(new TopicPartition(TOPIC, 0), 200L, new TopicPartition(TOPIC, 1), 240L)).all().get();
    int n = 0;
    try (KafkaShareConsumer<String, String> c = consumer("implicit")) {
      long deadline = System.currentTimeMillis() + 60_000;
      while (n < 60) {
        check(System.currentTimeMillis() < deadline, n + " of 60 records");
        n += c.poll(Duration.ofMillis(200)).count();
      }
      c.commitSync();
    }
    check(n == 60, n + " records, want 60");
    offsets(admin, RECORDS / 2);
    admin.deleteShareGroupOffsets(GROUP, java.util.Set.of(TOPIC)).all().get();
    check(admin.listGroups(new ListGroupsOptions().withTypes(java.util.Set.of(GroupType.SHARE))).all().get().isEmpty(), "the group is still there");
  }

  static void check(boolean ok, String otherwise) {
    if (!ok) {
      throw new AssertionError(otherwise);
    }
  }
}
