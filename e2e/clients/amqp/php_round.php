#!/usr/bin/php
<?php
// The round with php-amqplib, see README.md.
require_once 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

function check($got, $want, $what) {
    if ($got != $want) {
        fwrite(STDERR, "$what: " . var_export($got, true) . ", want " . var_export($want, true) . "\n");
        exit(1);
    }
}
function connect() {
    $u = parse_url(getenv('AMQP_URL'));
    return new AMQPStreamConnection($u['host'], $u['port'], $u['user'], $u['pass']);
}
$c = connect();
$ch = $c->channel();
foreach (['php', 'php-dead'] as $q) $ch->queue_delete($q);
$ch->queue_declare('php-dead', false, true, false, false);
$arguments = new AMQPTable(['x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => 'php-dead']);
$ch->queue_declare('php', false, true, false, false, false, $arguments);
$confirmed = 0;
$ch->set_ack_handler(function () use (&$confirmed) { $confirmed++; });
$ch->confirm_select();
for ($i = 0; $i < 1000; $i++) $ch->basic_publish(new AMQPMessage("$i", ['delivery_mode' => 2]), '', 'php');
$ch->wait_for_pending_acks(10);
check($confirmed, 1000, 'confirmed');

// 600 are taken, 500 acknowledged; then the connection is cut and 500 come, 100 of them again.
for ($n = 0; $n < 600; $n++) {
    $m = $ch->basic_get('php');
    check($m->getBody(), "$n", 'order');
    if ($n < 500) $m->ack();
}
$c->getIO()->close();
$c = connect();
$ch = $c->channel();
$ch->basic_qos(0, 50, false);
$rest = []; $again = 0;
$ch->basic_consume('php', 'c', false, false, false, false, function ($m) use (&$rest, &$again) {
    $rest[] = (int)$m->getBody();
    $again += $m->isRedelivered() ? 1 : 0;
    $m->getBody() === '999' ? $m->reject(false) : $m->ack();
});
while (count($rest) < 500) $ch->wait(null, false, 10);
$ch->basic_cancel('c');
check($rest, range(500, 999), 'order after the cut');
check($again, 100, 'redelivered');
$take = function ($q) use ($ch) {
    for ($i = 0; $i < 200; $i++) {
        if ($m = $ch->basic_get($q, true)) return $m;
        usleep(50000);
    }
    check(null, 'a message', $q);
};
$m = $take('php-dead');
check($m->getBody(), '999', 'dead letter');
$death = $m->get('application_headers')->getNativeData()['x-death'][0];
check([$death['reason'], $death['queue'], $death['count']], ['rejected', 'php', 1], 'x-death');

$headers = ['bool' => true, 'int' => -5, 'long' => 1 << 40, 'text' => 'text', 'void' => null, 'float' => 0.5, 'table' => ['a' => ['b' => 1]], 'array' => [1, 'x', [true]]];
$ch->basic_publish(new AMQPMessage('', ['application_headers' => new AMQPTable($headers), 'priority' => 4, 'message_id' => 'm']), '', 'php');
$m = $take('php');
check($m->get('application_headers')->getNativeData(), $headers, 'headers');
check([$m->get('priority'), $m->get('message_id')], [4, 'm'], 'properties');
try {
    $ch->queue_declare('php', false, false, false, false);
    check('taken', 'refused', 'inequivalent declare');
} catch (AMQPProtocolChannelException $e) {
    check($e->amqp_reply_code, 406, 'inequivalent declare');
}
$ch = $c->channel();
foreach (['php', 'php-dead'] as $q) $ch->queue_delete($q);
$c->close();
echo "ok\n";
