package weir;

import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Kafka Streams counts words with exactly_once_v2, is restarted without its state in the middle, and must
 * come out with the right numbers. Usage: WordCount HOST:PORT STATE-DIRECTORY
 */
public final class WordCount {
  static final int LINES = 200;

  public static void main(String[] args) throws Exception {
    Properties p = new Properties();
    p.put("bootstrap.servers", args[0]);
    try (Admin admin = Admin.create(p)) {
      admin.createTopics(List.of(new NewTopic("lines", 2, (short) 1), new NewTopic("counts", 2, (short) 1))).all().get();
    }
    for (int half = 0; half < 2; half++) {
      KafkaStreams streams = streams(args[0], args[1] + "/" + half); // another directory: the state comes back from the changelog
      streams.start();
      produce(p, half);
      await(p, LINES / 2 * (half + 1));
      streams.close(Duration.ofSeconds(30));
    }
    System.out.println("ok");
  }

  static KafkaStreams streams(String servers, String state) {
    StreamsBuilder builder = new StreamsBuilder();
    builder.<String, String>stream("lines")
        .flatMapValues(line -> Arrays.asList(line.split(" ")))
        .groupBy((key, word) -> word)
        .count()
        .toStream()
        .to("counts", Produced.with(Serdes.String(), Serdes.Long()));
    Properties p = new Properties();
    p.put("application.id", "wordcount");
    p.put("bootstrap.servers", servers);
    p.put("state.dir", state);
    p.put("processing.guarantee", "exactly_once_v2");
    p.put("default.key.serde", Serdes.StringSerde.class.getName());
    p.put("default.value.serde", Serdes.StringSerde.class.getName());
    p.put("replication.factor", "1");
    p.put("session.timeout.ms", "10000");
    return new KafkaStreams(builder.build(), p);
  }

  static void produce(Properties base, int half) throws Exception {
    Properties p = new Properties();
    p.putAll(base);
    p.put("key.serializer", StringSerializer.class.getName());
    p.put("value.serializer", StringSerializer.class.getName());
    try (KafkaProducer<String, String> producer = new KafkaProducer<>(p)) {
      for (int i = 0; i < LINES / 2; i++) {
        producer.send(new ProducerRecord<>("lines", "" + i, "every word " + (i % 2 == 0 ? "even" : "odd"))).get();
      }
    }
  }

  /** Reads counts from the beginning until "every" has been counted so often; numbers must only grow, by one. */
  static void await(Properties base, long want) {
    Properties p = new Properties();
    p.putAll(base);
    p.put("key.deserializer", StringDeserializer.class.getName());
    p.put("value.deserializer", LongDeserializer.class.getName());
    p.put("isolation.level", "read_committed");
    Map<String, Long> counts = new HashMap<>();
    try (KafkaConsumer<String, Long> c = new KafkaConsumer<>(p)) {
      List<TopicPartition> partitions = List.of(new TopicPartition("counts", 0), new TopicPartition("counts", 1));
      c.assign(partitions);
      c.seekToBeginning(partitions);
      for (long end = System.nanoTime() + Duration.ofSeconds(90).toNanos(); !done(counts, want); ) {
        if (System.nanoTime() > end) {
          throw new AssertionError("counted " + counts + ", want " + want);
        }
        for (ConsumerRecord<String, Long> r : c.poll(Duration.ofMillis(200))) {
          Long before = counts.put(r.key(), r.value());
          if (before != null && r.value() <= before) {
            throw new AssertionError(r.key() + " was " + before + " and is " + r.value());
          }
        }
      }
    }
    if (counts.get("every") != want || counts.get("odd") != want / 2) {
      throw new AssertionError("counted " + counts + ", want " + want);
    }
  }

  static boolean done(Map<String, Long> counts, long want) {
    return counts.getOrDefault("every", 0L) >= want && counts.getOrDefault("word", 0L) >= want
        && counts.getOrDefault("even", 0L) >= want / 2 && counts.getOrDefault("odd", 0L) >= want / 2;
  }
}
