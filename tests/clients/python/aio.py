"""aiokafka behind the driver protocol: a command per line in, an answer per line out. See ../DRIVERS.md.

aiokafka began as a copy of kafka-python's protocol code, but its client, producer and coordinator are its own.
"""

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import for_code

import lines


def checked(topics):
    """The errors in an answer of the admin client, which only hands them on."""
    for topic in topics:
        if topic[1]:
            raise for_code(topic[1])(*topic[2:])


class Driver:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.members = {}
        self.groups = {}
        self.producers = {}
        self.admin = None

    def producer(self, command, **settings):
        codec = command.get("codec", "none")
        return AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=command.get("idempotent", True),
            acks="all",
            max_request_size=20_000_000,
            linger_ms=5,
            request_timeout_ms=10_000,
            **settings,
        )

    async def consumer(self, **settings):
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **settings,
        )
        await consumer.start()
        return consumer

    async def produce(self, command):
        producer = self.producer(command)
        await producer.start()
        try:
            return {"acks": await self.sent(producer, command)}
        finally:
            await producer.stop()

    @staticmethod
    async def sent(producer, command):
        sent = [await producer.send(**lines.wire(command, record)) for record in command["records"]]
        acks = []
        for one in sent:
            try:
                ack = await one
                acks.append({"partition": ack.partition, "offset": ack.offset})
            except Exception as refused:
                acks.append({"error": repr(refused)})
        return acks

    async def consume(self, command):
        consumer = await self.consumer(isolation_level=lines.isolation(command))
        partition = TopicPartition(command["topic"], command.get("partition", 0))
        consumer.assign([partition])
        consumer.seek(partition, command.get("offset", 0))
        records, deadline = [], time.monotonic() + command.get("timeout_ms", 20_000) / 1000
        while len(records) < command["count"] and time.monotonic() < deadline:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records.extend(lines.seen(record) for record in batch)
        await consumer.stop()
        return {"records": records}

    async def create(self, command):
        topic = NewTopic(command["topic"], command.get("partitions", 1), 1, topic_configs=command.get("configs", {}))
        checked((await self.admin.create_topics([topic])).topic_errors)
        return {}

    async def delete(self, command):
        checked((await self.admin.delete_topics([command["topic"]])).topic_error_codes)
        return {}

    async def describe(self, command):
        [topic] = await self.admin.describe_topics([command["topic"]])
        checked([(topic["topic"], topic["error_code"])])
        return {"partitions": len(topic["partitions"]), "id": None}

    async def configs(self, command):
        resource = ConfigResource(ConfigResourceType.TOPIC, command["topic"])
        [answer] = await self.admin.describe_configs([resource])
        [[error, message, _, _, entries]] = answer.resources
        checked([(command["topic"], error, message)])
        return {"configs": {entry[0]: entry[1] for entry in entries}}

    async def times(self, command):
        partition = TopicPartition(command["topic"], command.get("partition", 0))
        consumer, offsets = await self.consumer(), []
        consumer.assign([partition])
        for timestamp in command["timestamps"]:
            if timestamp == -1:
                offsets.append((await consumer.end_offsets([partition]))[partition])
            elif timestamp == -2:
                offsets.append((await consumer.beginning_offsets([partition]))[partition])
            else:
                found = (await consumer.offsets_for_times({partition: timestamp}))[partition]
                offsets.append(found and found.offset)
        await consumer.stop()
        return {"offsets": offsets}

    async def join(self, command):
        member = await self.consumer(
            group_id=command["group"],
            group_instance_id=command.get("instance"),
            session_timeout_ms=command.get("session_timeout_ms", 10_000),
            heartbeat_interval_ms=500,
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        self.members[command["member"]] = member
        self.groups[command["member"]] = command["group"]
        # Only now: a start with topics would wait for the assignment, and so for other members' polls.
        member.subscribe([command["topic"]])
        return {}

    async def poll(self, command):
        member = self.members[command["member"]]
        records = []
        for batch in (await member.getmany(timeout_ms=command.get("timeout_ms", 300))).values():
            records.extend(lines.seen(record) for record in batch)
        return {"records": records, "assigned": sorted(p.partition for p in member.assignment())}

    async def commit(self, command):
        await self.members[command["member"]].commit()
        return {}

    async def committed(self, command):
        partition = TopicPartition(command["topic"], command.get("partition", 0))
        return {"offset": await self.members[command["member"]].committed(partition)}

    async def leave(self, command):
        await self.members.pop(command["member"]).stop()
        return {}

    async def init(self, command):
        producer = self.producer(
            command, transactional_id=command["transactional"], transaction_timeout_ms=30_000)
        self.producers[command["producer"]] = producer
        await producer.start()
        return {}

    async def begin(self, command):
        await self.producers[command["producer"]].begin_transaction()
        return {}

    async def send(self, command):
        return {"acks": await self.sent(self.producers[command["producer"]], command)}

    async def offsets(self, command):
        member = self.members[command["member"]]
        positions = {at: await member.position(at) for at in member.assignment()}
        # aiokafka names only the group: the broker cannot fence the member.
        group = self.groups[command["member"]]
        await self.producers[command["producer"]].send_offsets_to_transaction(positions, group)
        return {}

    async def end(self, command):
        producer = self.producers[command["producer"]]
        if command["commit"]:
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()
        return {}

    async def close(self, command):
        await self.producers.pop(command["producer"]).stop()
        return {}


COMMANDS = {"produce", "consume", "create", "delete", "describe", "configs", "times",
            "join", "poll", "commit", "committed", "leave", "init", "begin", "send", "offsets", "end", "close"}


async def main():
    driver, loop = Driver(sys.argv[1]), asyncio.get_running_loop()
    driver.admin = AIOKafkaAdminClient(bootstrap_servers=driver.bootstrap)
    await driver.admin.start()
    # Members go on beating while nobody commands.
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            if command["op"] not in COMMANDS:
                raise ValueError(f"unknown command {command}")
            answer = {"ok": await getattr(driver, command["op"])(command)}
        except Exception as failure:
            answer = {"error": repr(failure)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
