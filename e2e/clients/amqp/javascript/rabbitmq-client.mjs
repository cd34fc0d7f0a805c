// The round with rabbitmq-client, and a kill over which it connects again: see ../README.md.
import { Connection, ConsumerStatus } from 'rabbitmq-client'
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

const queue = { queue: 'jsc', durable: true, arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'jsc-dead' } }
const open = async () => {
  const c = new Connection({ url: process.env.AMQP_URL, retryLow: 100, retryHigh: 500 })
  c.on('error', () => {}) // it is cut, and the server killed, below
  await c.onConnect(30000)
  return c
}
let c = await open()
for (const q of ['jsc', 'jsc-dead', 'jsc-killed']) await c.queueDelete(q)
await c.queueDeclare({ queue: 'jsc-dead', durable: true })
const returned = []
let pub = c.createPublisher({ confirm: true, queues: [queue] })
pub.on('basic.return', m => returned.push(m.replyCode))
await pub.send({ routingKey: 'jsc-none', mandatory: true }, 'lost')
for (let i = 0; i < 200 && returned.length === 0; i++) await sleep(5) // the client tells of returns after confirms
assert.deepEqual(returned, [312])
await Promise.all(Array.from({ length: 1000 }, (_, i) => pub.send({ routingKey: 'jsc', durable: true, mandatory: true }, `${i}`)))
assert.deepEqual(returned, [312])

// 600 are taken, 500 acknowledged; then the connection is cut and 500 come, 100 of them again.
let ch = await c.acquire()
for (let n = 0; n < 600; n++) {
  const m = await ch.basicGet('jsc')
  assert.equal(m.body, `${n}`)
  if (n < 500) ch.basicAck(m)
}
await ch.queueDeclare({ queue: 'jsc', passive: true }) // the acks are there
c.unsafeDestroy()
c = await open()
const waiting = async q => (await c.queueDeclare({ queue: q, passive: true })).messageCount
for (let i = 0; i < 200 && await waiting('jsc') !== 500; i++) await sleep(50)
assert.equal(await waiting('jsc'), 500)
const rest = []
let again = 0
await new Promise((resolve, reject) => {
  const sub = c.createConsumer({ queue: 'jsc', queueOptions: queue, qos: { prefetchCount: 50 }, concurrency: 1 }, m => {
    rest.push(Number(m.body))
    again += m.redelivered ? 1 : 0
    if (rest.length < 500) return ConsumerStatus.ACK
    setImmediate(() => sub.close().then(resolve, reject))
    return ConsumerStatus.DROP
  })
  sub.on('error', reject)
})
assert.deepEqual(rest, Array.from({ length: 500 }, (_, i) => 500 + i))
assert.equal(again, 100)

async function take (q) {
  for (let i = 0; i < 200; i++) {
    const m = await c.basicGet({ queue: q, noAck: true })
    if (m) return m
    await sleep(50)
  }
  assert.fail(`nothing in ${q}`)
}
const dead = await take('jsc-dead')
assert.equal(dead.body, '999')
const { reason, queue: from, count } = dead.headers['x-death'][0]
assert.deepEqual({ reason, from, count }, { reason: 'rejected', from: 'jsc', count: 1 })

pub = c.createPublisher({ confirm: true })
const headers = { bool: true, int: -5, long: 2 ** 40, text: 'täxt', void: null, float: 0.5, table: { a: { b: 1 } }, array: [1, 'x', [true]] }
await pub.send({ routingKey: 'jsc', headers, priority: 4, messageId: 'm' }, Buffer.alloc(0))
const m = await take('jsc')
assert.deepEqual(m.headers, headers)
assert.deepEqual([m.priority, m.messageId], [4, 'm'])
ch = await c.acquire()
ch.on('error', () => {})
await assert.rejects(ch.queueDeclare({ queue: 'jsc', durable: false }), e => e.code === 'PRECONDITION_FAILED' && e.message.includes("inequivalent arg 'durable' for queue 'jsc' in vhost '/'"))

// A request is answered through the direct reply-to.
const server = c.createConsumer({ queue: 'jsc-rpc', queueOptions: { exclusive: true } }, async (m, reply) => { await reply(m.body + 1) })
await new Promise(resolve => server.once('ready', resolve))
const rpc = c.createRPCClient({ confirm: true })
assert.equal((await rpc.send('jsc-rpc', 41)).body, 42)
await rpc.close()
await server.close()

// The server is killed while messages are published: all that is confirmed arrives.
const got = new Set()
const killed = { queue: 'jsc-killed', durable: true }
const sub = c.createConsumer({ queue: 'jsc-killed', queueOptions: killed, qos: { prefetchCount: 20 } }, m => { got.add(Number(m.body)) })
sub.on('error', () => {})
const lasting = c.createPublisher({ confirm: true, maxAttempts: 100, queues: [killed] })
let retries = 0
lasting.on('retry', () => retries++)
const reconnected = new Promise(resolve => c.once('connection', resolve))
console.log('kill')
let n = 0
for (let down = true; down || n < 500; n += 50) {
  await Promise.all(Array.from({ length: 50 }, (_, i) => lasting.send({ routingKey: 'jsc-killed', durable: true }, `${n + i}`)))
  down &&= await Promise.race([reconnected.then(() => false), sleep(10, true)])
}
for (let i = 0; i < 600 && got.size < n; i++) await sleep(50)
assert.equal(got.size, n)
await sub.close()
for (const q of ['jsc', 'jsc-dead', 'jsc-killed']) await c.queueDelete(q)
await lasting.close()
await pub.close()
await c.close()
console.log(`ok, ${retries} publishes were tried again`)
