package weir;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.math.BigDecimal;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** The round with RabbitMQ's Java client: see ../README.md. */
public final class Round {
  static final String QUEUE = "java";
  static final String DEAD = "java-dead";
  static final Map<String, Object> ARGUMENTS = Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", DEAD);

  final ConnectionFactory factory = new ConnectionFactory();
  final List<Socket> sockets = new ArrayList<>();

  public static void main(String[] args) throws Exception {
    Round round = new Round();
    round.factory.setUri(System.getenv("AMQP_URL"));
    round.factory.setAutomaticRecoveryEnabled(false);
    round.factory.setSocketConfigurator(round.sockets::add);
    round.publish();
    round.consume();
    round.cutAndConsume();
    round.headers();
    round.transaction();
    round.refused();
    System.out.println("ok");
  }

  void publish() throws Exception {
    try (Connection c = factory.newConnection(); Channel ch = c.createChannel()) {
      ch.queueDelete(QUEUE);
      ch.queueDelete(DEAD);
      ch.queueDeclare(DEAD, true, false, false, null);
      ch.queueDeclare(QUEUE, true, false, false, ARGUMENTS);
      List<String> events = new ArrayList<>();
      ch.confirmSelect();
      ch.addReturnListener(r -> add(events, "return " + r.getReplyCode() + " " + r.getRoutingKey()));
      ch.addConfirmListener((tag, multiple) -> add(events, "ack"), (tag, multiple) -> add(events, "nack"));
      ch.basicPublish("", "java-none", true, null, bytes("lost"));
      ch.waitForConfirmsOrDie(30_000);
      check(List.of("return 312 java-none", "ack").equals(events), "an unroutable message: " + events);
      for (int i = 0; i < 1000; i++) {
        ch.basicPublish("", QUEUE, true, MessageProperties.PERSISTENT_TEXT_PLAIN, bytes(Integer.toString(i)));
      }
      ch.waitForConfirmsOrDie(30_000);
      check(!events.contains("nack") && events.stream().filter(e -> e.startsWith("return")).count() == 1, "after 1,000 publishes: " + events);
      check(ch.messageCount(QUEUE) == 1000, ch.messageCount(QUEUE) + " messages");
    }
  }

  static void add(List<String> events, String event) {
    synchronized (events) {
      events.add(event);
    }
  }

  /** 600 are delivered and 500 acknowledged; then the connection is cut. */
  void consume() throws Exception {
    Connection c = factory.newConnection();
    Channel ch = c.createChannel();
    ch.basicQos(100);
    BlockingQueue<Delivery> got = deliveries(ch, QUEUE);
    for (int i = 0; i < 600; i++) {
      Delivery d = take(got);
      check(text(d.getBody()).equals(Integer.toString(i)), "delivery " + i + " is " + text(d.getBody()));
      if (i < 500) {
        ch.basicAck(d.getEnvelope().getDeliveryTag(), false);
      }
    }
    sockets.get(sockets.size() - 1).close();
    for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30); c.isOpen(); ) {
      check(System.nanoTime() < end, "the connection is open although it was cut");
      Thread.sleep(10);
    }
  }

  static BlockingQueue<Delivery> deliveries(Channel ch, String queue) throws IOException {
    BlockingQueue<Delivery> got = new LinkedBlockingQueue<>();
    ch.basicConsume(queue, false, (tag, d) -> got.add(d), tag -> { });
    return got;
  }

  static Delivery take(BlockingQueue<Delivery> got) throws InterruptedException {
    Delivery d = got.poll(30, TimeUnit.SECONDS);
    check(d != null, "no delivery in 30 s");
    return d;
  }

  /** The other 500 come, in order, 100 of them again. The last is rejected. */
  void cutAndConsume() throws Exception {
    try (Connection c = factory.newConnection(); Channel ch = c.createChannel()) {
      for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(10); ch.messageCount(QUEUE) != 500; ) {
        check(System.nanoTime() < end, ch.messageCount(QUEUE) + " messages came back");
        Thread.sleep(50);
      }
      ch.basicQos(50);
      BlockingQueue<Delivery> got = deliveries(ch, QUEUE);
      int again = 0;
      for (int i = 500; i < 1000; i++) {
        Delivery d = take(got);
        check(text(d.getBody()).equals(Integer.toString(i)), "delivery " + i + " is " + text(d.getBody()));
        again += d.getEnvelope().isRedeliver() ? 1 : 0;
        if (i < 999) {
          ch.basicAck(d.getEnvelope().getDeliveryTag(), false);
        } else {
          ch.basicReject(d.getEnvelope().getDeliveryTag(), false);
        }
      }
      check(again == 100, again + " were redelivered");
      Delivery dead = take(deliveries(ch, DEAD));
      List<?> deaths = (List<?>) dead.getProperties().getHeaders().get("x-death");
      Map<?, ?> death = (Map<?, ?>) deaths.get(0);
      check(text(dead.getBody()).equals("999") && death.get("reason").toString().equals("rejected") && death.get("queue").toString().equals(QUEUE)
          && death.get("count").equals(1L), "the dead letter is " + text(dead.getBody()) + ", " + deaths);
      ch.basicAck(dead.getEnvelope().getDeliveryTag(), false);
    }
  }

  void headers() throws Exception {
    Map<String, Object> headers = new HashMap<>();
    headers.put("bool", true);
    headers.put("byte", (byte) -1);
    headers.put("short", (short) -300);
    headers.put("int", -5);
    headers.put("long", 1L << 40);
    headers.put("float", 0.5f);
    headers.put("double", 0.25);
    headers.put("decimal", new BigDecimal("1.25"));
    headers.put("time", new Date(1_700_000_000_000L));
    headers.put("bytes", new byte[] {0, -1});
    headers.put("void", null);
    headers.put("table", Map.of("a", Map.of("b", 1)));
    headers.put("array", List.of(1, 2L, List.of(true)));
    try (Connection c = factory.newConnection(); Channel ch = c.createChannel()) {
      AMQP.BasicProperties p = new AMQP.BasicProperties.Builder().headers(headers).priority(4).messageId("m").expiration("60000").userId(factory.getUsername())
          .timestamp(new Date(1_700_000_000_000L)).correlationId("c").replyTo("r").type("t").appId("a").contentType("text/plain").contentEncoding("utf-8").deliveryMode(2).build();
      ch.confirmSelect();
      ch.basicPublish("", QUEUE, p, bytes(""));
      ch.waitForConfirmsOrDie(30_000);
      GetResponse got = ch.basicGet(QUEUE, true);
      check(got != null && got.getBody().length == 0, "no message");
      Map<String, Object> back = new HashMap<>(got.getProps().getHeaders());
      check(java.util.Arrays.equals((byte[]) headers.remove("bytes"), (byte[]) back.remove("bytes")), "bytes in a header");
      check(headers.equals(back), "headers are " + back);
      AMQP.BasicProperties q = got.getProps();
      check(q.getPriority() == 4 && q.getMessageId().equals("m") && q.getExpiration().equals("60000") && q.getUserId().equals(factory.getUsername()) && q.getTimestamp().equals(p.getTimestamp())
          && q.getCorrelationId().equals("c") && q.getReplyTo().equals("r") && q.getType().equals("t") && q.getAppId().equals("a") && q.getContentType().equals("text/plain")
          && q.getContentEncoding().equals("utf-8") && q.getDeliveryMode() == 2, "properties are " + q);
    }
  }

  void transaction() throws Exception {
    try (Connection c = factory.newConnection(); Channel ch = c.createChannel()) {
      ch.txSelect();
      for (int i = 0; i < 10; i++) {
        ch.basicPublish("", QUEUE, null, bytes("gone"));
      }
      ch.txRollback();
      for (int i = 0; i < 10; i++) {
        ch.basicPublish("", QUEUE, null, bytes("kept"));
      }
      check(ch.messageCount(QUEUE) == 0, "a message is there before the commit");
      ch.txCommit();
      check(ch.messageCount(QUEUE) == 10, ch.messageCount(QUEUE) + " messages are there after the commit");
    }
  }

  void refused() throws Exception {
    try (Connection c = factory.newConnection()) {
      refused(406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'java' in vhost '/': received 'false' but current is 'true'",
          () -> c.createChannel().queueDeclare(QUEUE, false, false, false, ARGUMENTS));
      refused(404, "NOT_FOUND - no queue 'java-none' in vhost '/'", () -> c.createChannel().queueDeclarePassive("java-none"));
      Channel ch = c.createChannel();
      ch.exchangeDeclare("java-x", BuiltinExchangeType.TOPIC, true);
      ch.queueBind(QUEUE, "java-x", "a.#");
      refused(406, "PRECONDITION_FAILED - exchange 'java-x' in vhost '/' in use", () -> c.createChannel().exchangeDelete("java-x", true));
      check(ch.queuePurge(QUEUE).getMessageCount() == 10, "what was purged");
      ch.exchangeDelete("java-x");
      ch.queueDelete(QUEUE);
      ch.queueDelete(DEAD);
    }
  }

  interface Call {
    void run() throws IOException;
  }

  static void refused(int code, String text, Call call) {
    try {
      call.run();
    } catch (IOException e) {
      check(e.getCause() instanceof ShutdownSignalException, "want " + code + ", got " + e);
      AMQP.Channel.Close close = (AMQP.Channel.Close) ((ShutdownSignalException) e.getCause()).getReason();
      check(close.getReplyCode() == code && close.getReplyText().equals(text), "want " + code + " " + text + ", got " + close);
      return;
    }
    throw new AssertionError("not refused with " + code);
  }

  static byte[] bytes(String s) {
    return s.getBytes(StandardCharsets.UTF_8);
  }

  static String text(byte[] b) {
    return new String(b, StandardCharsets.UTF_8);
  }

  static void check(boolean ok, String otherwise) {
    if (!ok) {
      throw new AssertionError(otherwise);
    }
  }
}
