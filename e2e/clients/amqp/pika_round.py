#!/usr/bin/python3
"""The round with pika, see README.md."""
import datetime, os, socket, sys, time
from decimal import Decimal

import pika

params = pika.URLParameters(os.environ["AMQP_URL"])


def check(got, want, what):
    if got != want:
        sys.exit(f"{what}: {got!r}, want {want!r}")


connection = pika.BlockingConnection(params)
ch = connection.channel()
for q in ("pika", "pika-dead"):
    ch.queue_delete(q)
ch.queue_declare("pika-dead", durable=True)
ch.queue_declare("pika", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "pika-dead"})
ch.confirm_delivery()
for i in range(1000):
    ch.basic_publish("", "pika", str(i).encode(), pika.BasicProperties(delivery_mode=2), mandatory=True)
try:
    ch.basic_publish("", "pika-none", b"lost", mandatory=True)
    sys.exit("an unroutable message was not returned")
except pika.exceptions.UnroutableError as e:
    check(e.messages[0].method.reply_code, 312, "return")

# 600 are consumed, 500 acknowledged; then the connection is cut and 500 come, 100 of them again.
ch.basic_qos(prefetch_count=100)
n = 0
for method, _, body in ch.consume("pika"):
    check(int(body), n, "order")
    n += 1
    if n <= 500:
        ch.basic_ack(method.delivery_tag)
    if n == 600:
        break
connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
connection = pika.BlockingConnection(params)
ch = connection.channel()
limit = time.monotonic() + 10  # until the server has seen it
while (ready := ch.queue_declare("pika", passive=True).method.message_count) != 500:
    if time.monotonic() > limit:
        sys.exit(f"{ready} ready: what the cut connection held did not come back")
    connection.sleep(0.05)
again = 0
for method, _, body in ch.consume("pika"):
    n = int(body)
    again += method.redelivered
    if n == 999:
        ch.basic_nack(method.delivery_tag, requeue=False)
        break
    ch.basic_ack(method.delivery_tag)
ch.cancel()
if again < 100:
    sys.exit(f"{again} redelivered, want at least 100")
check(ch.queue_declare("pika", passive=True).method.message_count, 0, "left")

for method, props, body in ch.consume("pika-dead", inactivity_timeout=10):
    if method is None:
        sys.exit("no dead letter")
    check(body, b"999", "dead letter")
    death = props.headers["x-death"][0]
    check((death["reason"], death["queue"], death["count"]), ("rejected", "pika", 1), "x-death")
    ch.basic_ack(method.delivery_tag)
    break
ch.cancel()

headers = {"bool": True, "int": -5, "long": 1 << 40, "decimal": Decimal("1.25"), "text": "täxt", "bytes": b"\x00\xff",
           "time": datetime.datetime(2026, 1, 2, 3, 4, 5), "void": None, "table": {"a": {"b": 1}}, "array": [1, "x", [True]]}
ch.basic_publish("", "pika", b"", pika.BasicProperties(headers=headers, priority=4, message_id="m", expiration="60000", user_id=params.credentials.username))
for method, props, body in ch.consume("pika", inactivity_timeout=10):
    got = dict(props.headers)
    if got["bytes"] == b"\x00\xff" or got["bytes"] == "\x00\udcff":
        got["bytes"] = b"\x00\xff"
    check(got, headers, "headers")
    check((props.priority, props.message_id, props.expiration), (4, "m", "60000"), "properties")
    break
ch.cancel()
try:
    ch.queue_declare("pika", durable=False)
    sys.exit("an inequivalent declare was taken")
except pika.exceptions.ChannelClosedByBroker as e:
    check(e.reply_code, 406, "inequivalent declare")
ch = connection.channel()
for q in ("pika", "pika-dead"):
    ch.queue_delete(q)
connection.close()
print("ok")
