#!/usr/bin/env python3
"""Reads a topic with kafka-python 2.0.2, whose Fetch is older than zstd.

Usage: old_reader.py HOST:PORT TOPIC RECORDS
"""

import sys

from kafka import KafkaConsumer, __version__

servers, topic, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
assert __version__ == "2.0.2", "this is kafka-python %s: the test is about 2.0.2" % __version__
consumer = KafkaConsumer(topic, bootstrap_servers=servers, group_id="old", auto_offset_reset="earliest",
                         consumer_timeout_ms=20000)
seen = set()
for record in consumer:
    place = (record.partition, record.offset)
    assert place not in seen, "%s came twice" % (place,)
    assert record.value, "%s is empty" % (place,)
    seen.add(place)
    if len(seen) == wanted:
        break
assert len(seen) == wanted, "read %d records of %d" % (len(seen), wanted)
consumer.commit()
consumer.close()
print("ok")
