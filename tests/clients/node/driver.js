// kafkajs behind the driver protocol: a command per line in, an answer per line out. See ../DRIVERS.md.
//
// kafkajs has gzip and no other codec by itself, shows headers as an object (several values of a name together), and
// consumes in groups only: `consume` joins one that nobody else knows.
'use strict'

const readline = require('node:readline')
const { randomUUID } = require('node:crypto')
const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')

const kafka = new Kafka({
  brokers: [process.argv[2]],
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 8 },
})
const admin = kafka.admin()
const members = new Map()
const producers = new Map()

const fromText = text => (text == null ? null : Buffer.from(text, 'base64'))
const toText = bytes => (bytes == null ? null : bytes.toString('base64'))
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

function toWire(record) {
  const headers = {}
  for (const [name, value] of record.headers ?? []) {
    headers[name] = [...(headers[name] ?? []), fromText(value)]
  }
  return {
    key: fromText(record.key),
    value: fromText(record.value),
    headers,
    partition: record.partition ?? 0,
    timestamp: record.timestamp == null ? undefined : String(record.timestamp),
  }
}

function fromWire(partition, message) {
  const headers = Object.entries(message.headers ?? {}).flatMap(([name, values]) =>
    (Array.isArray(values) ? values : [values]).map(value => [name, toText(value)]))
  return {
    partition,
    offset: Number(message.offset),
    timestamp: Number(message.timestamp),
    timestamp_type: message.batchContext.timestampType === 1 ? 'append' : 'create',
    key: toText(message.key),
    value: toText(message.value),
    headers,
  }
}

// One batch for each partition, and one answer for each batch, or one error for all.
async function send(sender, command) {
  const compression = command.codec === 'gzip' ? CompressionTypes.GZIP : CompressionTypes.None
  const messages = command.records.map(toWire)
  let batches
  try {
    batches = await sender.send({ topic: command.topic, acks: -1, compression, messages })
  } catch (error) {
    return messages.map(() => ({ error: words(error) }))
  }
  const next = new Map(batches.map(batch => [batch.partition, Number(batch.baseOffset)]))
  return messages.map(({ partition }) => {
    const offset = next.get(partition)
    next.set(partition, offset + 1)
    return { partition, offset }
  })
}

// A member keeps what has come until somebody polls; what nobody has polled when its partition goes is another's.
class Member {
  constructor(group, topic, settings) {
    Object.assign(this, { group, topic, waiting: [], assigned: [], next: new Map(), failed: null })
    this.consumer = kafka.consumer({
      groupId: group, heartbeatInterval: 500, maxWaitTimeInMs: 100, allowAutoTopicCreation: false, ...settings,
    })
    const { GROUP_JOIN, CRASH } = this.consumer.events
    this.consumer.on(GROUP_JOIN, ({ payload }) => {
      this.assigned = [...(payload.memberAssignment[topic] ?? [])].sort((a, b) => a - b)
      this.waiting = []
      this.next.clear()
    })
    this.consumer.on(CRASH, ({ payload }) => { this.failed = payload.error })
  }

  async start() {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: [this.topic], fromBeginning: true })
    await this.consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        this.waiting.push(...batch.messages.map(message => fromWire(batch.partition, message)))
      },
    })
  }

  async poll(timeout) {
    const deadline = Date.now() + timeout
    while (this.waiting.length === 0 && Date.now() < deadline) await sleep(10)
    if (this.failed) throw this.failed
    const records = this.waiting
    this.waiting = []
    for (const record of records) this.next.set(record.partition, record.offset + 1)
    return { records, assigned: this.assigned }
  }

  offsets() {
    return [...this.next].map(([partition, offset]) => ({ partition, offset: String(offset) }))
  }
}

async function consume(command) {
  const timeout = command.timeout_ms ?? 20_000
  const deadline = Date.now() + timeout
  const partition = command.partition ?? 0
  const member = new Member(`consume-${randomUUID()}`, command.topic, { readUncommitted: !command.committed })
  await member.start()
  member.consumer.seek({ topic: command.topic, partition, offset: String(command.offset ?? 0) })
  const records = []
  while (records.length < command.count && Date.now() < deadline) {
    const polled = await member.poll(deadline - Date.now())
    const asked = polled.records.filter(one => one.partition === partition && one.offset >= (command.offset ?? 0))
    // The seek may have let some come twice.
    records.push(...asked.filter(one => records.length === 0 || one.offset > records.at(-1).offset))
  }
  await member.consumer.disconnect()
  return { records }
}

async function times({ topic, partition = 0, timestamps }) {
  const [ends] = (await admin.fetchTopicOffsets(topic)).filter(one => one.partition === partition)
  const offsets = []
  for (const timestamp of timestamps) {
    if (timestamp === -1) offsets.push(Number(ends.high))
    else if (timestamp === -2) offsets.push(Number(ends.low))
    else {
      const found = await admin.fetchTopicOffsetsByTimestamp(topic, timestamp)
      // kafkajs says the end where there is no such record.
      const { offset } = found.find(one => one.partition === partition)
      offsets.push(offset === ends.high ? null : Number(offset))
    }
  }
  return { offsets }
}

const commands = {
  async produce(command) {
    const producer = kafka.producer({ idempotent: command.idempotent ?? true, maxInFlightRequests: 1 })
    await producer.connect()
    try {
      return { acks: await send(producer, command) }
    } finally {
      await producer.disconnect()
    }
  },
  consume,
  async create({ topic, partitions = 1, configs = {} }) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    const created = await admin.createTopics({ topics: [{ topic, numPartitions: partitions, configEntries }] })
    // That is how kafkajs tells.
    if (!created) throw new Error('createTopics: false, the topic exists')
    return {}
  },
  async delete({ topic }) {
    await admin.deleteTopics({ topics: [topic] })
    return {}
  },
  async describe({ topic }) {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    return { partitions: topics[0].partitions.length, id: null }
  },
  async configs({ topic }) {
    const { resources } = await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
    return { configs: Object.fromEntries(resources[0].configEntries.map(one => [one.configName, one.configValue])) }
  },
  times,
  async join(command) {
    const member = new Member(command.group, command.topic, { sessionTimeout: command.session_timeout_ms ?? 10_000 })
    members.set(command.member, member)
    await member.start()
    return {}
  },
  async poll(command) {
    return members.get(command.member).poll(command.timeout_ms ?? 300)
  },
  async commit(command) {
    const member = members.get(command.member)
    const offsets = member.offsets().map(one => ({ topic: member.topic, ...one }))
    if (offsets.length > 0) await member.consumer.commitOffsets(offsets)
    return {}
  },
  async committed({ member, topic, partition = 0 }) {
    const [{ partitions }] = await admin.fetchOffsets({ groupId: members.get(member).group, topics: [topic] })
    const offset = Number(partitions.find(one => one.partition === partition).offset)
    return { offset: offset < 0 ? null : offset }
  },
  async leave({ member }) {
    await members.get(member).consumer.disconnect()
    members.delete(member)
    return {}
  },
  // kafkajs asks for its producer id when the first transaction begins.
  async init({ producer, transactional }) {
    const one = kafka.producer({
      transactionalId: transactional, idempotent: true, maxInFlightRequests: 1, transactionTimeout: 30_000,
    })
    await one.connect()
    producers.set(producer, { producer: one, transaction: null })
    return {}
  },
  async begin({ producer }) {
    const one = producers.get(producer)
    one.transaction = await one.producer.transaction()
    return {}
  },
  async send(command) {
    return { acks: await send(producers.get(command.producer).transaction, command) }
  },
  async offsets({ producer, member: name }) {
    const member = members.get(name)
    const topics = [{ topic: member.topic, partitions: member.offsets() }]
    await producers.get(producer).transaction.sendOffsets({ consumerGroupId: member.group, topics })
    return {}
  },
  async end({ producer, commit }) {
    const { transaction } = producers.get(producer)
    await (commit ? transaction.commit() : transaction.abort())
    return {}
  },
  async close({ producer }) {
    await producers.get(producer).producer.disconnect()
    producers.delete(producer)
    return {}
  },
}

// An error with those it was made of: only they say which of Kafka's errors it is.
function words(error) {
  const inner = [...(error.errors ?? []), error.cause].filter(Boolean)
  return [error.name, error.type, error.message, ...inner.map(words)].filter(Boolean).join(': ')
}

async function main() {
  await admin.connect()
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer
    try {
      const command = JSON.parse(line)
      answer = { ok: await commands[command.op](command) }
    } catch (error) {
      answer = { error: words(error) }
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`)
  }
  // A member that was not closed must not keep the process alive.
  process.exit(0)
}

main()
