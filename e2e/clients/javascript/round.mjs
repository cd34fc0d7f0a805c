// The round of every client, with kafkajs and with the client of
// @confluentinc/kafka-javascript that has the same interface: see ../README.md.
// Usage: node round.mjs HOST:PORT kafkajs|confluent

import assert from 'node:assert/strict'
import kafkajs from 'kafkajs'

const [servers, library] = process.argv.slice(2)
const confluent = library === 'confluent'
const topic = `js-${library}`
const records = 1000

// The two libraries take the same options in different places.
async function client() {
  if (!confluent) {
    return new kafkajs.Kafka({ clientId: topic, brokers: [servers], logLevel: kafkajs.logLevel.ERROR })
  }
  const { KafkaJS } = (await import('@confluentinc/kafka-javascript')).default
  return new KafkaJS.Kafka({ kafkaJS: { clientId: topic, brokers: [servers], logLevel: KafkaJS.logLevel.ERROR } })
}
const options = o => (confluent ? { kafkaJS: o } : o)

const kafka = await client()
const admin = kafka.admin()

async function createTopic(name, numPartitions, configEntries = []) {
  assert.equal(await admin.createTopics({ topics: [{ topic: name, numPartitions, replicationFactor: 1, configEntries }] }), true)
}

async function createAndDescribe() {
  await createTopic(topic, 3, [{ name: 'retention.ms', value: '3600000' }])
  assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] }), false, 'a topic was created twice')
  assert((await admin.listTopics()).includes(topic))
  const { topics } = confluent
    ? { topics: await admin.fetchTopicMetadata({ topics: [topic] }).then(m => m.topics ?? m) }
    : await admin.fetchTopicMetadata({ topics: [topic] })
  assert.equal(topics[0].partitions.length, 3)
  if (confluent) return // it has no further administration of topics
  await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
  const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic }] })
  const value = name => resources[0].configEntries.find(e => e.configName === name)?.configValue
  assert.equal(value('retention.ms'), '3600000')
  assert.equal(value('cleanup.policy'), 'delete')
  assert((await admin.describeCluster()).clusterId)
}

async function produce() {
  const producer = kafka.producer(options({ idempotent: true }))
  await producer.connect()
  for (let n = 0; n < records; n += 100) {
    const messages = Array.from({ length: 100 }, (_, i) => ({ key: `key-${(n + i) % 50}`, value: `value-${n + i}`, headers: { n: `${n + i}` } }))
    const [sent] = await producer.send({ topic, messages })
    assert(Number(sent.baseOffset ?? 0) >= 0)
  }
  await producer.disconnect()
}

// read lets members of a group read until it has seen what it is to see, and returns the values.
async function read(groupId, name, members, enough, more = {}) {
  const values = []
  let done
  const finished = new Promise(resolve => { done = resolve })
  const consumers = await Promise.all(Array.from({ length: members }, async () => {
    const consumer = kafka.consumer(options({ groupId, fromBeginning: true, ...more }))
    await consumer.connect()
    await consumer.subscribe(confluent ? { topic: name } : { topic: name, fromBeginning: true })
    await consumer.run({
      eachMessage: async ({ message }) => {
        values.push({ key: message.key?.toString(), value: message.value.toString() })
        if (values.length === enough) done()
      },
    })
    return consumer
  }))
  const timer = setTimeout(() => { throw new Error(`${values.length} of ${enough} records of ${name}`) }, 60_000)
  await finished
  clearTimeout(timer)
  await Promise.all(consumers.map(c => c.disconnect())) // which commits
  assert.equal(values.length, enough, `${values.length} records of ${name}`)
  return values
}

async function consume() {
  const last = new Map()
  for (const { key, value } of await read(topic, topic, 2, records)) {
    const n = Number(value.slice('value-'.length))
    assert(!(last.get(key) >= n), `${key}: ${n} after ${last.get(key)}`)
    last.set(key, n)
  }
  const offsets = await admin.fetchOffsets({ groupId: topic, topics: [topic] })
  const committed = offsets[0].partitions.reduce((sum, p) => sum + Math.max(0, Number(p.offset)), 0)
  assert.equal(committed, records, `committed offsets add up to ${committed}`)
  assert((await admin.listGroups()).groups.some(g => g.groupId === topic))
}

async function transact() {
  const name = `${topic}-tx`
  await createTopic(name, 1)
  const producer = kafka.producer(options({ transactionalId: `${topic}-1`, maxInFlightRequests: 1, idempotent: true }))
  await producer.connect()
  for (let round = 0; round < 6; round++) {
    const transaction = await producer.transaction()
    const word = round % 2 === 0 ? 'kept' : 'gone'
    await transaction.send({ topic: name, messages: Array.from({ length: 10 }, (_, i) => ({ value: `${word}-${round}-${i}` })) })
    await (word === 'kept' ? transaction.commit() : transaction.abort())
  }
  await producer.disconnect()
  const values = await read(`${topic}-tx`, name, 1, 30, confluent ? { readUncommitted: false } : { readUncommitted: false })
  assert(values.every(({ value }) => value.startsWith('kept-')), 'an aborted record was read')
}

// refusedRecords: of a batch with records that a compacted topic does not take, those
// are named (KIP-467).
async function refusedRecords() {
  const name = `${topic}-keys`
  await createTopic(name, 1, [{ name: 'cleanup.policy', value: 'compact' }])
  const producer = kafka.producer({ 'linger.ms': 1000, kafkaJS: {} })
  await producer.connect()
  const sent = await Promise.allSettled(['a', null, 'b', null].map(key => producer.send({ topic: name, messages: [{ key, value: 'x' }] })))
  await producer.disconnect()
  const invalid = 87, inDifferentRecord = -138
  assert.deepEqual(sent.map(s => s.reason?.code), [inDifferentRecord, invalid, inDifferentRecord, invalid])
  await admin.deleteTopics({ topics: [name] })
}

async function cleanUp() {
  await admin.deleteGroups([topic, `${topic}-tx`])
  await admin.deleteTopics({ topics: [topic, `${topic}-tx`] })
  assert(!(await admin.listTopics()).includes(topic))
}

await admin.connect()
await createAndDescribe()
await produce()
await consume()
await transact()
if (confluent) await refusedRecords()
await cleanUp()
await admin.disconnect()
console.log('ok')
process.exit(0)
