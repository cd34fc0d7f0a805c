#!/usr/bin/env python3
"""An administrator's day and a producer's, with the newest librdkafka: what Kafka answers to both.

Usage: admin.py HOST:PORT, of a node where whoever asks may do everything by ACLs
"""

import sys
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, ConfigResource, NewPartitions, NewTopic,
                                   ResourcePatternType, ResourceType, ScramCredentialInfo, ScramMechanism, UserScramCredentialDeletion, UserScramCredentialUpsertion)

servers = {"bootstrap.servers": sys.argv[1]}
admin = AdminClient(servers)


def verdict(future):
    """The name of the error that an administrative call ends with, or None."""
    try:
        future.result(30)
    except KafkaException as e:
        return e.args[0].name()
    return None


def verdicts(futures):
    return {key: verdict(future) for key, future in futures.items()}


def expect(what, got, want):
    assert got == want, f"{what}: {got}, want {want}"


def partitions():
    return {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=30).topics.items() if not name.startswith("__")}


def topics():
    """Each topic of a request is created, or refused, by itself."""
    def wanted(prefix):
        return [NewTopic(f"{prefix}-0", 1, 1),
                NewTopic(f"{prefix}-1", 8, 1, config={"compression.type": "lz4", "dummy.doesntexist": "x"}),
                NewTopic(f"{prefix}-2", 15, 1),
                NewTopic(f"{prefix}-3", 2, replica_assignment=[[broker()], [broker()]]),
                NewTopic(f"{prefix}-4", -1, -1, config={"delete.retention.ms": "900"})]
    for prefix, check in (("checked", True), ("made", False)):
        got = verdicts(admin.create_topics(wanted(prefix), validate_only=check, operation_timeout=9))
        expect(prefix, got, {t.topic: "INVALID_CONFIG" if t.topic.endswith("-1") else None for t in wanted(prefix)})
    there = partitions()
    expect("topics", {n: p for n, p in there.items() if n != "made-4"}, {"made-0": 1, "made-2": 15, "made-3": 2})
    assert there["made-4"] > 0, there
    expect("grown", verdicts(admin.create_partitions([NewPartitions("made-0", 3), NewPartitions("made-2", 15), NewPartitions("missing", 2)])),
           {"made-0": None, "made-2": "INVALID_PARTITIONS", "missing": "UNKNOWN_TOPIC_OR_PART"})
    expect("deleted", verdicts(admin.delete_topics(["made-2", "missing"])), {"made-2": None, "missing": "UNKNOWN_TOPIC_OR_PART"})
    expect("topics", {n: p for n, p in partitions().items() if n != "made-4"}, {"made-0": 3, "made-3": 2})


def broker():
    return next(iter(admin.list_topics(timeout=30).brokers))


def configs():
    """Settings of topics and of the broker are changed one by one."""
    topic, node = ConfigResource(ConfigResource.Type.TOPIC, "made-0"), ConfigResource(ConfigResource.Type.BROKER, str(broker()))
    missing = ConfigResource(ConfigResource.Type.TOPIC, "missing")
    for resource, settings in ((topic, {"compression.type": "gzip", "flush.ms": "12345678"}), (missing, {"compression.type": "lz4"}),
                               (node, {"sasl.kerberos.min.time.before.relogin": "58000"})):
        for key, value in settings.items():
            resource.set_config(key, value)
    expect("alter", {r.name: verdict(f) for r, f in admin.alter_configs([topic, node, missing]).items()},
           {"made-0": None, str(broker()): None, "missing": "UNKNOWN_TOPIC_OR_PART"})
    found = {r.name: f for r, f in admin.describe_configs([topic, node, missing]).items()}
    expect("describe", verdict(found["missing"]), "UNKNOWN_TOPIC_OR_PART")
    settings = found["made-0"].result(30)
    expect("compression.type", settings["compression.type"].value, "gzip")
    expect("flush.ms", settings["flush.ms"].value, "12345678")
    expect("the broker's setting", found[str(broker())].result(30)["sasl.kerberos.min.time.before.relogin"].value, "58000")


def records():
    """Records are deleted up to an offset of each partition."""
    send([("made-3", 0, None)] * 10 + [("made-3", 1, None)] * 10)
    got = admin.delete_records([TopicPartition("made-3", 0, 4), TopicPartition("made-3", 1, -1), TopicPartition("made-3", 9, 1)])
    low = {p.partition: f.result(30).low_watermark for p, f in got.items() if p.partition < 9}
    expect("low watermarks", low, {0: 4, 1: 10})
    expect("no partition", verdict(next(f for p, f in got.items() if p.partition == 9)), "_UNKNOWN_PARTITION")


def acls():
    """ACLs are added, found by a filter, and removed by it."""
    mine = AclBinding(ResourceType.TOPIC, "made", ResourcePatternType.PREFIXED, "User:test1", "*", AclOperation.READ, AclPermissionType.ALLOW)
    other = AclBinding(ResourceType.TOPIC, "other", ResourcePatternType.LITERAL, "User:test2", "*", AclOperation.WRITE, AclPermissionType.ALLOW)
    expect("create", set(verdicts(admin.create_acls([mine, other])).values()), {None})
    applies = AclBindingFilter(ResourceType.TOPIC, "made-0", ResourcePatternType.MATCH, None, None, AclOperation.ANY, AclPermissionType.ANY)
    expect("found", admin.describe_acls(applies).result(30), [mine])
    tests = [AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, user, None, AclOperation.ANY, AclPermissionType.ANY) for user in ("User:test1", "User:test2")]
    expect("deleted", [f.result(30) for f in admin.delete_acls(tests).values()], [[mine], [other]])
    expect("left", admin.describe_acls(applies).result(30), [])


def groups():
    """Offsets of a group are set, told and forgotten; a group without members is deleted."""
    at = [TopicPartition("made-3", p, 5 + p) for p in (0, 1)]
    asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions("offsets", at)])
    expect("set", [(p.partition, p.offset, p.error) for p in asked["offsets"].result(30).topic_partitions], [(0, 5, None), (1, 6, None)])
    told = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("offsets")])["offsets"].result(30).topic_partitions
    expect("told", sorted((p.partition, p.offset) for p in told), [(0, 5), (1, 6)])
    nowhere = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions("offsets", [TopicPartition("missing", 0, 1)])])["offsets"].result(30)
    expect("no topic", nowhere.topic_partitions[0].error.name(), "UNKNOWN_TOPIC_OR_PART")
    listed = admin.list_consumer_groups().result(30)
    assert any(g.group_id == "offsets" for g in listed.valid) and not listed.errors, listed
    member = Consumer({**servers, "group.id": "members", "session.timeout.ms": 10000, "auto.offset.reset": "earliest"})
    member.subscribe(["made-3"])
    end = time.time() + 60
    while not (message := member.poll(0.1)):
        assert time.time() < end, "the member gets nothing"
    member.commit(message, asynchronous=False)
    described = admin.describe_consumer_groups(["members"])["members"].result(30)
    expect("members", [(described.state.name, len(described.members))], [("STABLE", 1)])
    expect("with a member", verdict(admin.delete_consumer_groups(["members"])["members"]), "NON_EMPTY_GROUP")
    member.close()
    expect("without", verdicts(admin.delete_consumer_groups(["members", "offsets", "nobody"])), {"members": None, "offsets": None, "nobody": "GROUP_ID_NOT_FOUND"})


def users():
    """Credentials come and go, also with the short salts that Kafka takes."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8192)
    expect("nobody", verdict(admin.describe_user_scram_credentials(["sam"])["sam"]), "RESOURCE_NOT_FOUND")
    upsert = UserScramCredentialUpsertion("sam", info, b"password", b"salt")
    expect("set", verdicts(admin.alter_user_scram_credentials([upsert])), {"sam": None})
    got = admin.describe_user_scram_credentials(["sam"])["sam"].result(30).scram_credential_infos
    expect("told", [(c.mechanism, c.iterations) for c in got], [(info.mechanism, info.iterations)])
    expect("gone", verdicts(admin.alter_user_scram_credentials([UserScramCredentialDeletion("sam", info.mechanism)])), {"sam": None})
    expect("nobody", verdict(admin.describe_user_scram_credentials(["sam"])["sam"]), "RESOURCE_NOT_FOUND")


def send(messages, **more):
    """Produces (topic, partition, key) and returns the error and the place of each, in order of delivery."""
    delivered = []
    producer = Producer({**servers, "linger.ms": 200, **more})
    for n, (topic, partition, key) in enumerate(messages):
        place = {} if partition is None else {"partition": partition}
        producer.produce(topic, value=str(n), key=key, on_delivery=lambda e, m: delivered.append((e and e.name(), m.partition(), m.offset(), int(m.value()))), **place)
    expect("not sent", producer.flush(60), 0)
    return delivered


def batches():
    """Batches arrive whole and in order, where they are sent to; what is wrong with one record is said of that one."""
    count = 20_000
    expect("made", verdicts(admin.create_topics([NewTopic("batches", 4, 1), NewTopic("compacted", 1, 1, config={"cleanup.policy": "compact"})])),
           {"batches": None, "compacted": None})
    got = send([("batches", 2, None)] * count, **{"queue.buffering.max.messages": count})
    expect("in order", [(e, p, v) for e, p, _, v in got], [(None, 2, n) for n in range(count)])
    expect("offsets", [o for _, _, o, _ in got], list(range(count)))
    places = [n * 7 % 4 for n in range(count)]
    got = send([("batches", p, None) for p in places], **{"queue.buffering.max.messages": count})
    expect("where they are sent to", sorted((v, p) for e, p, _, v in got if e is None), list(enumerate(places)))
    got = send([("batches", None, None)] * count, **{"queue.buffering.max.messages": count, "sticky.partitioning.linger.ms": 0})
    assert all(e is None for e, _, _, _ in got) and len({p for _, p, _, _ in got}) > 1, "one partition for all"
    keys = [None if n % 2 else "key" for n in range(10)]
    got = send([("compacted", 0, key) for key in keys])
    expect("in a compacted topic", {v: e for e, _, _, v in got}, {n: "_INVALID_DIFFERENT_RECORD" if key else "INVALID_RECORD" for n, key in enumerate(keys)})


for part in (topics, configs, records, acls, groups, users, batches):
    part()
print("ok")
