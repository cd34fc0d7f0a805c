#!/usr/bin/env python3
"""A round of librdkafka's share consumer (KIP-932), see ../README.md.

Usage: share.py HOST:PORT
"""

import sys
import time

from confluent_kafka import AcknowledgeType, Producer, ShareConsumer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

TOPIC, GROUP, RECORDS = "shared", "python-share", 500
servers = sys.argv[1]


def prepare():
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics([NewTopic(TOPIC, num_partitions=2)]).values():
        future.result()
    setting = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.GROUP, GROUP, incremental_configs=[setting])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    producer = Producer({"bootstrap.servers": servers})
    for i in range(RECORDS):
        producer.produce(TOPIC, value=f"v{i}", partition=i % 2)
    assert producer.flush(60) == 0


def member(mode):
    c = ShareConsumer({"bootstrap.servers": servers, "group.id": GROUP, "share.acknowledgement.mode": mode, "max.poll.records": 50})
    c.subscribe([TOPIC])
    return c


def explicit():
    """Two members: each record is accepted once; every tenth is released first, and every hundredth rejected."""
    deliveries, done, deadline = {}, 0, time.monotonic() + 60
    with member("explicit") as a, member("explicit") as b:
        while done < RECORDS:
            assert time.monotonic() < deadline, f"{done} of {RECORDS} records are done"
            for c in (a, b):
                settled = 0
                for m in c.poll(0.2):
                    assert m.error() is None, m.error()
                    i = int(m.value()[1:])
                    deliveries[i] = n = deliveries.get(i, 0) + 1
                    if i % 10 == 0 and n == 1:
                        c.acknowledge(m, AcknowledgeType.RELEASE)
                        continue
                    c.acknowledge(m, AcknowledgeType.REJECT if i % 100 == 0 else AcknowledgeType.ACCEPT)
                    settled += 1
                for partition, error in c.commit_sync().items():
                    assert error is None, (partition, error)
                done += settled
    assert done == RECORDS and len(deliveries) == RECORDS, (done, len(deliveries))
    wrong = {i: n for i, n in deliveries.items() if n != (2 if i % 10 == 0 else 1)}
    assert not wrong, f"times that records were delivered: {wrong}"


def implicit():
    """What another member has accepted does not come again; what is new is accepted by the next poll."""
    producer = Producer({"bootstrap.servers": servers})
    for i in range(60):
        producer.produce(TOPIC, value=f"new{i}", partition=i % 2)
    assert producer.flush(60) == 0
    for want in (60, 0):
        got, deadline = [], time.monotonic() + (60 if want else 3)
        with member("implicit") as c:
            while time.monotonic() < deadline and (not want or len(got) < want):
                for m in c.poll(0.2):
                    assert m.error() is None, m.error()
                    got.append(m.value())
                for partition, error in c.commit_sync().items():
                    assert error is None, (partition, error)
        assert sorted(got) == sorted(f"new{i}".encode() for i in range(want)), got


prepare()
explicit()
implicit()
print("ok")
