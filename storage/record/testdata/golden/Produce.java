import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Produces what goldenRecords in golden_test.go describes. Arguments: address, topic, codec. */
public class Produce {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("compression.type", args[2]);
        p.put("linger.ms", "200");
        p.put("batch.size", "200000");
        try (var producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < 40; i++) {
                long time = 1_700_000_000_000L + i * 7L - (i % 5 == 4 ? 1000 : 0);
                byte[] key = utf8("sensors/device-" + i % 4 + "/telemetry");
                if (i % 7 == 3) key = null;
                if (i % 7 == 5) key = new byte[0];
                byte[] value = utf8("{\"n\":" + i + ",\"temperature\":21.5,\"site\":\"Zürich\"}");
                if (i % 11 == 6) value = null;
                if (i % 11 == 8) value = new byte[0];
                if (i == 20) {
                    value = new byte[100_000];
                    for (long j = 0; j < value.length; j++) value[(int) j] = (byte) (j * j >> 7);
                }
                var headers = new RecordHeaders();
                if (i % 3 > 0) headers.add("seq", utf8("" + i));
                if (i % 3 > 1) headers.add("null", null).add("", new byte[0]);
                sent.add(producer.send(new ProducerRecord<>(args[1], 0, time, key, value, headers)));
            }
            for (var s : sent) s.get();
        }
    }

    static byte[] utf8(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }
}
