// A round of MQTT.js against a gateway: see ../README.md.
// Usage: node round.mjs URL 3|4|5 CERTIFICATE

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import mqtt from 'mqtt'

const [url, version, certificate] = process.argv.slice(2)
const protocolVersion = Number(version)
const name = `${url.slice(0, 3)}${version}`.replace(':', '')

function options(clientId, more = {}) {
  return {
    clientId, protocolVersion, protocolId: protocolVersion === 3 ? 'MQIsdp' : 'MQTT',
    ca: readFileSync(certificate), reconnectPeriod: 0, connectTimeout: 10_000, ...more,
  }
}

// collect gathers messages until there are enough of them.
function collect(client, count) {
  const got = []
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${got.length} of ${count} messages`)), 20_000)
    client.on('message', (topic, payload, packet) => {
      got.push({ topic, payload, packet })
      if (got.length === count) {
        clearTimeout(timer)
        resolve(got)
      }
    })
  })
}

const messages = 100
const large = Buffer.alloc(500_000, 'x')
const topic = `js/${name}`

const reader = await mqtt.connectAsync(url, options(`${name}-reader`))
const granted = await reader.subscribeAsync([`${topic}/#`], { qos: 2 })
assert.equal(granted[0].qos, 2)
const all = collect(reader, messages + 2)

const writer = await mqtt.connectAsync(url, options(`${name}-writer`, { will: { topic: `${topic}/will`, payload: 'gone', qos: 1 } }))
for (let n = 0; n < messages; n++) {
  await writer.publishAsync(`${topic}/${n % 3}`, `${n}`, { qos: n % 3 })
}
await writer.publishAsync(`${topic}/large`, large, { qos: 1 })
writer.stream.destroy() // no DISCONNECT: the will is published

const got = await all
for (let qos = 0; qos < 3; qos++) {
  const want = Array.from({ length: messages }, (_, n) => n).filter(n => n % 3 === qos).map(String)
  assert.deepEqual(got.filter(m => m.topic === `${topic}/${qos}`).map(m => m.payload.toString()), want)
}
assert(got.find(m => m.topic === `${topic}/large`).payload.equals(large), 'the large message differs')
assert.equal(got.find(m => m.topic === `${topic}/will`).payload.toString(), 'gone')

const versions = collect(reader, 1)
await reader.subscribeAsync('$SYS/broker/version')
const [told] = await versions
assert.match(told.payload.toString(), /^weir-edge /)
assert.equal(told.packet.retain, true)

const closed = once(reader, 'close')
await reader.endAsync()
await closed
console.log('ok')
