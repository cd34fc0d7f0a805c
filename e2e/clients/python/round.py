#!/usr/bin/env python3
"""The round of every client, with confluent-kafka (librdkafka): see ../README.md.

Usage: round.py HOST:PORT
"""

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

TOPIC = "python"
RECORDS = 1000
servers = sys.argv[1]
admin = AdminClient({"bootstrap.servers": servers})


def done(futures):
    """Waits for the futures of an administrative call."""
    return {name: future.result() for name, future in futures.items()}


def create_and_describe():
    topic = NewTopic(TOPIC, num_partitions=3, replication_factor=1, config={"retention.ms": "3600000"})
    done(admin.create_topics([topic]))
    try:
        done(admin.create_topics([topic]))
        raise AssertionError("a topic was created twice")
    except KafkaException as e:
        assert e.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, e
    done(admin.create_partitions([NewPartitions(TOPIC, 4)]))
    resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC, set_config={"max.message.bytes": "500000", "retention.ms": "3600000"})
    done(admin.alter_configs([resource]))
    config = list(done(admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, TOPIC)])).values())[0]
    assert config["retention.ms"].value == "3600000", config["retention.ms"]
    assert config["max.message.bytes"].value == "500000", config["max.message.bytes"]
    assert config["cleanup.policy"].is_default, config["cleanup.policy"]
    assert len(admin.list_topics(TOPIC).topics[TOPIC].partitions) == 4


def produce():
    offsets = []

    def delivered(error, message):
        assert error is None, error
        offsets.append(message.offset())

    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "compression.type": codec, "linger.ms": 5})
        for i in range(RECORDS // 5):
            n = len(offsets) + i - len(offsets) % (RECORDS // 5)
            producer.produce(TOPIC, key=f"key-{n % 50}", value=f"value-{n}", on_delivery=delivered)
            producer.poll(0)
        assert producer.flush(60) == 0
    assert len(offsets) == RECORDS and min(offsets) == 0


def consumer(group, **more):
    return Consumer({"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "session.timeout.ms": 10000, **more})


def consume():
    members = [consumer(TOPIC), consumer(TOPIC)]
    for m in members:
        m.subscribe([TOPIC])
    seen, end = set(), time.time() + 60
    while len(seen) < RECORDS or not all(m.assignment() for m in members):
        assert time.time() < end, f"{len(seen)} records, assignments {[m.assignment() for m in members]}"
        for m in members:
            for message in m.consume(500, timeout=0.1):
                assert message.error() is None, message.error()
                where = (message.partition(), message.offset())
                assert where not in seen, f"{where} was read twice"
                seen.add(where)
                m.commit(message, asynchronous=False)
    assert len(seen) == RECORDS, len(seen)
    partitions = [TopicPartition(TOPIC, p) for p in range(4)]
    committed = sum(max(0, p.offset) for p in members[0].committed(partitions, timeout=10))
    assert committed == RECORDS, f"committed offsets add up to {committed}"
    assert any(g.id == TOPIC for g in admin.list_groups(timeout=10))
    for m in members:
        m.close()


def transact():
    done(admin.create_topics([NewTopic("python-tx", num_partitions=2, replication_factor=1)]))
    producer = Producer({"bootstrap.servers": servers, "transactional.id": "python-1"})
    producer.init_transactions(30)
    for number in range(6):
        producer.begin_transaction()
        word = "gone" if number % 2 else "kept"
        for i in range(10):
            producer.produce("python-tx", value=f"{word}-{number}-{i}", partition=i % 2)
        if word == "kept":
            producer.commit_transaction(30)
        else:
            producer.flush(30)
            producer.abort_transaction(30)
    values = read_to_end("python-tx", 2)
    assert len(values) == 30 and all(v.startswith("kept-") for v in values), values
    move(producer)


def move(producer):
    """Consumes, produces and commits the offsets in one transaction."""
    done(admin.create_topics([NewTopic("python-moved", num_partitions=1, replication_factor=1)]))
    source = consumer("python-mover", **{"isolation.level": "read_committed"})
    source.subscribe(["python-tx"])
    moved, end = 0, time.time() + 60
    while moved < 30:
        assert time.time() < end, f"moved {moved}"
        messages = source.consume(100, timeout=0.5)
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            producer.produce("python-moved", value=b"moved-" + message.value())
        producer.send_offsets_to_transaction(source.position(source.assignment()), source.consumer_group_metadata(), 30)
        producer.commit_transaction(30)
        moved += len(messages)
    committed = sum(max(0, p.offset) for p in source.committed([TopicPartition("python-tx", p) for p in (0, 1)], timeout=10))
    assert committed > 0, committed
    source.close()
    assert len(read_to_end("python-moved", 1)) == 30


def read_to_end(topic, partitions):
    """The committed values of a topic."""
    reader = consumer("python-reader", **{"isolation.level": "read_committed", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    values, ended, end = [], set(), time.time() + 60
    while len(ended) < partitions:
        assert time.time() < end, f"{len(values)} values of {topic}"
        message = reader.poll(1)
        if message is None:
            continue
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            ended.add(message.partition())
        else:
            values.append(message.value().decode())
    reader.close()
    return values


def clean_up():
    done(admin.delete_topics([TOPIC, "python-tx", "python-moved"]))
    assert TOPIC not in admin.list_topics(timeout=10).topics


create_and_describe()
produce()
consume()
transact()
clean_up()
print("ok")
