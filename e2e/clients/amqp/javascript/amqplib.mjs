// The round with amqplib, see README.md.
import amqp from 'amqplib'
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

const url = process.env.AMQP_URL
const options = { durable: true, arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'js-dead' } }
let c = await amqp.connect(url)
c.on('error', () => {}) // it is cut below
let ch = await c.createConfirmChannel()
for (const q of ['js', 'js-dead']) await ch.deleteQueue(q)
await ch.assertQueue('js-dead', { durable: true })
await ch.assertQueue('js', options)
for (let i = 0; i < 1000; i++) ch.sendToQueue('js', Buffer.from(`${i}`), { persistent: true })
await ch.waitForConfirms()

// 600 are taken, 500 acknowledged; then the connection is cut and 500 come, 100 of them again.
for (let n = 0; n < 600; n++) {
  const m = await ch.get('js')
  assert.equal(m.content.toString(), `${n}`)
  if (n < 500) ch.ack(m)
}
await ch.checkQueue('js') // the acks are there
c.connection.stream.destroy()
c = await amqp.connect(url)
ch = await c.createConfirmChannel()
for (let i = 0; i < 200 && (await ch.checkQueue('js')).messageCount !== 500; i++) await sleep(50)
assert.equal((await ch.checkQueue('js')).messageCount, 500)
await ch.prefetch(50)
const rest = []
let again = 0
await new Promise((resolve, reject) => {
  ch.consume('js', m => {
    rest.push(Number(m.content.toString()))
    again += m.fields.redelivered ? 1 : 0
    if (rest.length < 500) return ch.ack(m)
    ch.nack(m, false, false)
    resolve()
  }, { consumerTag: 'c' }).catch(reject)
})
await ch.cancel('c')
assert.deepEqual(rest, Array.from({ length: 500 }, (_, i) => 500 + i))
assert.equal(again, 100)

async function take (q) {
  for (let i = 0; i < 200; i++) {
    const m = await ch.get(q, { noAck: true })
    if (m) return m
    await sleep(50)
  }
  assert.fail(`nothing in ${q}`)
}
const dead = await take('js-dead')
assert.equal(dead.content.toString(), '999')
const { reason, queue, count } = dead.properties.headers['x-death'][0]
assert.deepEqual({ reason, queue, count }, { reason: 'rejected', queue: 'js', count: 1 })

const headers = { bool: true, int: -5, long: 2 ** 40, text: 'täxt', void: null, float: 0.5, bytes: Buffer.from([0, 255]), table: { a: { b: 1 } }, array: [1, 'x', [true]] }
ch.sendToQueue('js', Buffer.alloc(0), { headers, priority: 4, messageId: 'm' })
const m = await take('js')
assert.deepEqual(m.properties.headers, headers)
assert.deepEqual([m.properties.priority, m.properties.messageId], [4, 'm'])
for (const q of ['js', 'js-dead']) await ch.deleteQueue(q)
await c.close()
console.log('ok')
process.exit() // the heartbeats of the connection that was cut go on
