package weir;

import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A publisher and a consumer whose connections recover by themselves. Each time it prints "kill" the server is to be
 * killed and started again. What was confirmed must be delivered, and queues, bindings and consumers must be there
 * again.
 */
public final class Recovery {
  static final String QUEUE = "java-recovery";
  static final int MESSAGES = 3000;
  static final int BATCH = 50;
  static final int KILLS = 3;

  final Set<Integer> delivered = new HashSet<>();
  final Semaphore recovered = new Semaphore(0);

  public static void main(String[] args) throws Exception {
    ConnectionFactory factory = new ConnectionFactory();
    factory.setUri(System.getenv("AMQP_URL"));
    factory.setNetworkRecoveryInterval(200);
    factory.setRequestedHeartbeat(5);
    try (Connection publisher = factory.newConnection("publisher"); Connection consumer = factory.newConnection("consumer")) {
      int again = new Recovery().run(publisher, consumer);
      System.out.println(again + " messages were published twice");
    }
    System.out.println("ok");
  }

  int run(Connection publisher, Connection consumer) throws Exception {
    listen(publisher);
    listen(consumer);
    Channel in = consumer.createChannel();
    in.queueDeclare(QUEUE, true, false, false, null);
    in.basicQos(20);
    in.basicConsume(QUEUE, false, (tag, d) -> deliver(in, d), tag -> { });
    Semaphore told = new Semaphore(0);
    String own = in.queueDeclare().getQueue(); // exclusive, and gone with the connection
    in.queueBind(own, "amq.fanout", "");
    in.basicConsume(own, true, (tag, d) -> told.release(), tag -> { });

    Channel out = publisher.createChannel();
    out.confirmSelect();
    int again = 0;
    for (int from = 0, kills = 0; from < MESSAGES; from += BATCH) {
      if (kills < KILLS && from >= (2 * kills + 1) * MESSAGES / (2 * KILLS)) {
        kills++;
        System.out.println("kill");
        for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60); publish(out, from); again += BATCH) {
          Round.check(System.nanoTime() < end, "the server is alive a minute after it was to be killed");
        }
        awaitRecovery(2);
      }
      Round.check(publish(out, from), "a publish failed although nobody killed the server");
    }
    out.basicPublish("amq.fanout", "", null, new byte[0]);
    out.waitForConfirmsOrDie(30_000);
    Round.check(told.tryAcquire(30, TimeUnit.SECONDS), "the exclusive queue is not bound any more");
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (count() < MESSAGES) {
      Round.check(System.nanoTime() < end, count() + " of " + MESSAGES + " messages were delivered");
      Thread.sleep(20);
    }
    in.queueDelete(QUEUE);
    return again;
  }

  /** Reports whether all messages of a batch were confirmed. */
  static boolean publish(Channel ch, int from) throws InterruptedException {
    try {
      for (int i = from; i < from + BATCH; i++) {
        ch.basicPublish("", QUEUE, true, MessageProperties.PERSISTENT_BASIC, Round.bytes(Integer.toString(i)));
      }
      ch.waitForConfirmsOrDie(30_000);
      return true;
    } catch (AlreadyClosedException e) {
      Round.check(!e.isInitiatedByApplication(), "closed: " + e);
      return false;
    } catch (ShutdownSignalException | IOException e) {
      return false; // it is recovered
    } catch (TimeoutException e) {
      throw new AssertionError("no confirm in 30 s", e);
    }
  }

  void listen(Connection c) {
    ((Recoverable) c).addRecoveryListener(new RecoveryListener() {
      @Override
      public void handleRecovery(Recoverable r) {
        recovered.release();
      }

      @Override
      public void handleRecoveryStarted(Recoverable r) { }
    });
  }

  void awaitRecovery(int connections) throws InterruptedException {
    Round.check(recovered.tryAcquire(connections, 60, TimeUnit.SECONDS), "the connections have not recovered in a minute");
  }

  void deliver(Channel ch, Delivery d) throws IOException {
    synchronized (delivered) {
      delivered.add(Integer.valueOf(Round.text(d.getBody())));
    }
    try {
      ch.basicAck(d.getEnvelope().getDeliveryTag(), false);
    } catch (AlreadyClosedException e) {
      // it is delivered again
    }
  }

  int count() {
    synchronized (delivered) {
      return delivered.size();
    }
  }
}
