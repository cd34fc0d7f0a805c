#!/bin/sh
# librabbitmq's amqp-tools, see README.md.
set -eu
url="--url=$AMQP_URL"
amqp-delete-queue "$url" -q tools >/dev/null 2>&1 || true
[ "$(amqp-declare-queue "$url" -q tools -d)" = tools ]
seq 1 1000 | amqp-publish "$url" -r tools -p -l
# 400 are consumed with acks, 100 at a time ahead; the rest stay.
got=$(amqp-consume "$url" -q tools -c 400 -p 100 -- sh -c 'cat; echo' | grep -c .)
[ "$got" = 400 ] || { echo "consumed $got, want 400"; exit 1; }
for want in 401 402 403; do
  got=$(amqp-get "$url" -q tools)
  [ "$got" = "$want" ] || { echo "got '$got', want $want"; exit 1; }
done
left=$(amqp-delete-queue "$url" -q tools)
[ "$left" = 597 ] || { echo "left '$left', want 597"; exit 1; }
if amqp-get "$url" -q tools 2>/dev/null; then echo "the deleted queue answers"; exit 1; fi
echo ok
