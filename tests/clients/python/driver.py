"""kafka-python behind the driver protocol: a command per line in, an answer per line out. See ../DRIVERS.md.

kafka-python shares no code with librdkafka, Java or Go: a fourth reading of the protocol.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import MemberState, OffsetAndMetadata

import lines


class Load(threading.Thread):
    """Produces counted records until it is told to stop and writes one line for each ack."""

    def __init__(self, producer, command):
        super().__init__(daemon=True)
        self.producer, self.command = producer, command
        self.running, self.sent, self.failed = True, 0, None
        self.acks = open(command["path"], "w")

    def run(self):
        command, due = self.command, time.monotonic()
        while self.running and self.failed is None:
            number = self.sent
            self.sent += 1
            tail = bytes(ord("a") + (number + i) % 26 for i in range(command["bytes"]))
            value = f"{command['producer']}:{number}:".encode() + tail
            try:
                self.send(number, value)
            except Exception as refused:
                self.failed = f"{number}: {refused!r}"
            due = max(due + 1 / command["rate"], time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))
        self.producer.flush()
        self.producer.close()
        self.acks.close()

    def send(self, number, value):
        sent = self.producer.send(self.command["topic"], value=value, partition=number % self.command["partitions"])
        sent.add_callback(lambda ack: self.acks.write(f"{number} {ack.partition} {ack.offset}\n"))
        sent.add_errback(self.refused, number)

    def refused(self, number, refused):
        self.failed = f"{number}: {refused!r}"


class Member:
    """A consumer in a thread of its own, which goes on with a join that a command has begun until it is complete.

    kafka-python (3.0.12: coordinator/base.py, join_group_async) keeps a join that outlasts a poll, but if it completes
    before the next poll it is thrown away and the member joins anew, which has everyone join anew if the member leads the
    group. Applications, which poll without a pause, never see that. One thread that polls two members in turn does: the
    join of one completes with the poll of the other, and they can go on like that for minutes, with Kafka as well.
    """

    STEP_MS = 100

    def __init__(self, consumer):
        self.consumer, self.polled, self.failed = consumer, [], None
        self.thread = ThreadPoolExecutor(max_workers=1)

    def do(self, action, *arguments):
        return self.thread.submit(action, *arguments).result()

    def fetch(self, timeout_ms):
        for batch in self.consumer.poll(timeout_ms=timeout_ms).values():
            self.polled.extend(batch)
        if self.consumer.group_metadata().state == MemberState.REBALANCING:
            self.thread.submit(self.go_on)

    def go_on(self):
        try:
            self.fetch(self.STEP_MS)
        except Exception as failure:
            self.failed = failure

    def take(self, timeout_ms):
        if self.failed is not None:
            failure, self.failed = self.failed, None
            raise failure
        if not self.polled:
            self.fetch(timeout_ms)
        records, self.polled = self.polled, []
        return records, sorted(at.partition for at in self.consumer.assignment())

    def commit(self):
        self.consumer.commit(self.positions() if self.polled else None)

    def positions(self):
        """Where the records that were taken end; the end of a join may have brought more."""
        ends = {at: self.consumer.position(at) for at in self.consumer.assignment()}
        for record in self.polled:
            at = TopicPartition(record.topic, record.partition)
            ends[at] = min(ends.get(at, record.offset), record.offset)
        return {at: OffsetAndMetadata(end) for at, end in ends.items()}

    def leave(self):
        self.do(self.consumer.close)
        self.thread.shutdown()


class Driver:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.members = {}
        self.producers = {}
        self.the_load = None
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    def producer(self, command, **settings):
        codec = command.get("codec", "none")
        return KafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=command.get("idempotent", True),
            acks="all",
            max_request_size=20_000_000,
            linger_ms=command.get("linger_ms", 5),
            delivery_timeout_ms=command.get("timeout_ms", 30_000),
            request_timeout_ms=10_000,
            max_block_ms=command.get("timeout_ms", 30_000),
            reconnect_backoff_max_ms=200,
            **settings,
        )

    def consumer(self, **settings):
        return KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            reconnect_backoff_max_ms=200,
            **settings,
        )

    def produce(self, command):
        producer = self.producer(command)
        acks = self.sent(producer, command)
        producer.close()
        return {"acks": acks}

    @staticmethod
    def sent(producer, command):
        sent = [producer.send(**lines.wire(command, record)) for record in command["records"]]
        producer.flush()
        acks = []
        for one in sent:
            try:
                ack = one.get(timeout=30)
                acks.append({"partition": ack.partition, "offset": ack.offset})
            except Exception as refused:
                acks.append({"error": repr(refused)})
        return acks

    def consume(self, command):
        consumer = self.consumer(isolation_level=lines.isolation(command))
        partition = TopicPartition(command["topic"], command.get("partition", 0))
        consumer.assign([partition])
        consumer.seek(partition, command.get("offset", 0))
        records, deadline = [], time.monotonic() + command.get("timeout_ms", 20_000) / 1000
        while len(records) < command["count"] and time.monotonic() < deadline:
            for batch in consumer.poll(timeout_ms=200).values():
                records.extend(lines.seen(record) for record in batch)
        consumer.close()
        return {"records": records}

    def create(self, command):
        topic = NewTopic(command["topic"], command.get("partitions", 1), 1, topic_configs=command.get("configs", {}))
        self.admin.create_topics([topic])
        return {}

    def delete(self, command):
        self.admin.delete_topics([command["topic"]])
        return {}

    def describe(self, command):
        [topic] = self.admin.describe_topics([command["topic"]])
        return {"partitions": len(topic["partitions"]), "id": str(topic["topic_id"])}

    def configs(self, command):
        resource = ConfigResource(ConfigResourceType.TOPIC, command["topic"])
        [topics] = self.admin.describe_configs([resource], config_filter="all").values()
        [configs] = topics.values()
        return {"configs": {name: config["value"] for name, config in configs.items()}}

    def times(self, command):
        partition = TopicPartition(command["topic"], command.get("partition", 0))
        consumer, offsets = self.consumer(), []
        for timestamp in command["timestamps"]:
            if timestamp == -1:
                offsets.append(consumer.end_offsets([partition])[partition])
            elif timestamp == -2:
                offsets.append(consumer.beginning_offsets([partition])[partition])
            elif timestamp == -3:
                found = self.admin.list_partition_offsets({partition: -3})[partition]
                offsets.append(found.offset if found.offset >= 0 else None)
            else:
                found = consumer.offsets_for_times({partition: timestamp})[partition]
                offsets.append(found and found.offset)
        consumer.close()
        return {"offsets": offsets}

    def join(self, command):
        consumer = self.consumer(
            group_id=command["group"],
            session_timeout_ms=command.get("session_timeout_ms", 10_000),
            heartbeat_interval_ms=500,
            group_instance_id=command.get("instance"),
            partition_assignment_strategy=(
                [CooperativeStickyAssignor] if command.get("cooperative") else [RangePartitionAssignor]),
        )
        consumer.subscribe([command["topic"]])
        self.members[command["member"]] = Member(consumer)
        return {}

    def poll(self, command):
        member = self.members[command["member"]]
        records, assigned = member.do(member.take, command.get("timeout_ms", 300))
        return {"records": [lines.seen(record) for record in records], "assigned": assigned}

    def commit(self, command):
        member = self.members[command["member"]]
        member.do(member.commit)
        return {}

    def committed(self, command):
        partition = TopicPartition(command["topic"], command.get("partition", 0))
        member = self.members[command["member"]]
        return {"offset": member.do(member.consumer.committed, partition)}

    def leave(self, command):
        self.members.pop(command["member"]).leave()
        return {}

    def init(self, command):
        producer = self.producer(command, transactional_id=command["transactional"], transaction_timeout_ms=30_000)
        self.producers[command["producer"]] = producer
        producer.init_transactions()
        return {}

    def begin(self, command):
        self.producers[command["producer"]].begin_transaction()
        return {}

    def send(self, command):
        return {"acks": self.sent(self.producers[command["producer"]], command)}

    def offsets(self, command):
        member = self.members[command["member"]]
        positions, group = member.do(lambda: (member.positions(), member.consumer.group_metadata()))
        self.producers[command["producer"]].send_offsets_to_transaction(positions, group)
        return {}

    def end(self, command):
        producer = self.producers[command["producer"]]
        if command["commit"]:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
        return {}

    def close(self, command):
        self.producers.pop(command["producer"]).close(timeout=1)
        return {}

    def load(self, command):
        self.the_load = Load(self.producer(command), command)
        self.the_load.start()
        return {}

    def stop(self, _):
        self.the_load.running = False
        self.the_load.join()
        return {"sent": self.the_load.sent, "failed": self.the_load.failed}


def main():
    driver = Driver(sys.argv[1])
    commands = {"produce", "consume", "create", "delete", "describe", "configs", "times",
                "join", "poll", "commit", "committed", "leave",
                "init", "begin", "send", "offsets", "end", "close", "load", "stop"}
    for line in sys.stdin:
        try:
            command = json.loads(line)
            if command["op"] not in commands:
                raise ValueError(f"unknown command {command}")
            answer = {"ok": getattr(driver, command["op"])(command)}
        except Exception as failure:
            answer = {"error": repr(failure)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
