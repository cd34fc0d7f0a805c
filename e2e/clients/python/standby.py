#!/usr/bin/env python3
"""A client that is told what to do, line by line, for the tests with two nodes.

Usage: standby.py HOST:PORT[,HOST:PORT] [CONFIG=VALUE...]

Each line of standard input is an order, and is answered with a line that begins
with "ok" or "failed":

    topics                the topics that there are, with commas between them
    send TOPIC FIRST N    produces N records, idempotently, with the values FIRST and on
    plain TOPIC FIRST N   the same without idempotence
    read TOPIC N          the values of the next N records, read in the group "group"
    load TOPIC            produces records until "stop", which says how many were acknowledged
    version               of librdkafka
"""

import sys
import threading
import time

from confluent_kafka import Consumer, Producer, libversion
from confluent_kafka.admin import AdminClient

LIMIT = 60  # seconds for each order
config = {"bootstrap.servers": sys.argv[1], "topic.metadata.refresh.interval.ms": 1000}
config.update(pair.split("=", 1) for pair in sys.argv[2:])


class Client:
    def __init__(self):
        self.producers = {}
        self.consumers = {}
        self.loaded = None

    def producer(self, idempotent):
        if idempotent not in self.producers:
            self.producers[idempotent] = Producer({**config, "enable.idempotence": idempotent, "linger.ms": 5,
                                                   "message.timeout.ms": LIMIT * 1000})
        return self.producers[idempotent]

    def topics(self):
        names = AdminClient(config).list_topics(timeout=LIMIT).topics
        return ",".join(sorted(names))

    def send(self, topic, first, count, idempotent=True):
        failed = []
        producer = self.producer(idempotent)
        for n in range(int(first), int(first) + int(count)):
            producer.produce(topic, key=str(n % 7), value=str(n), on_delivery=lambda e, _: e and failed.append(str(e)))
            producer.poll(0)
        left = producer.flush(LIMIT)
        if left or failed:
            raise RuntimeError(f"{left} not sent, {len(failed)} refused: {failed[:1]}")
        return count

    def plain(self, topic, first, count):
        return self.send(topic, first, count, idempotent=False)

    def read(self, topic, count):
        if topic not in self.consumers:
            self.consumers[topic] = Consumer({**config, "group.id": "group", "auto.offset.reset": "earliest",
                                              "session.timeout.ms": 10000, "enable.auto.commit": False})
            self.consumers[topic].subscribe([topic])
        values, error, end = [], None, time.time() + LIMIT
        while len(values) < int(count):
            if time.time() > end:
                raise RuntimeError(f"{len(values)} of {count} records: {values[:5]}, {error}")
            message = self.consumers[topic].poll(0.5)
            if message is None:
                continue
            if message.error():  # the client tries again by itself
                error = message.error()
                continue
            values.append(message.value().decode())
        return ",".join(values)

    def load(self, topic):
        self.stopped, self.acked, self.refused = threading.Event(), [], []

        def acked(n):
            return lambda error, _: self.refused.append(str(error)) if error else self.acked.append(n)

        def run():
            producer, n = self.producer(True), 0
            while not self.stopped.is_set():
                producer.produce(topic, key=str(n % 7), value=str(n), on_delivery=acked(n))
                producer.poll(0.005)
                n += 1
            producer.flush(LIMIT)
            self.sent = n

        self.loaded = threading.Thread(target=run)
        self.loaded.start()
        end = time.time() + LIMIT
        while not self.acked:
            if time.time() > end:
                raise RuntimeError(f"nothing is acknowledged: {self.refused[:1]}")
            time.sleep(0.01)
        return ""

    def stop(self):
        self.stopped.set()
        self.loaded.join()
        if self.refused or len(self.acked) != self.sent:
            raise RuntimeError(f"{len(self.acked)} of {self.sent} acknowledged: {self.refused[:1]}")
        return self.sent

    def version(self):
        return libversion()[0]

    def close(self):
        for consumer in self.consumers.values():
            consumer.close()


client = Client()
for line in sys.stdin:
    order, *args = line.split()
    try:
        print("ok", getattr(client, order)(*args), flush=True)
    except Exception as e:  # whatever it is, the test says it
        print("failed", type(e).__name__, str(e).replace("\n", " "), flush=True)
client.close()
