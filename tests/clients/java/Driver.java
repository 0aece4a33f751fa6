import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Apache Kafka's own client behind the driver protocol: a command per line in, an answer per line out. See ../DRIVERS.md. */
public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final String bootstrap;
    private final Admin admin;
    private final Map<String, KafkaConsumer<byte[], byte[]>> members = new HashMap<>();
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private Load load;

    private Driver(String bootstrap) {
        this.bootstrap = bootstrap;
        this.admin = Admin.create(client(Map.of("default.api.timeout.ms", "30000")));
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        Driver driver = new Driver(args[0]);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            ObjectNode answer = JSON.createObjectNode();
            try {
                answer.set("ok", driver.act(JSON.readTree(line)));
            } catch (Throwable failure) {
                Throwable cause = failure instanceof ExecutionException ? failure.getCause() : failure;
                answer.put("error", cause.toString());
            }
            out.println(JSON.writeValueAsString(answer));
            out.flush();
        }
        // A member that was not closed must not keep the process alive.
        Runtime.getRuntime().halt(0);
    }

    private JsonNode act(JsonNode command) throws Exception {
        return switch (command.get("op").asText()) {
            case "produce" -> produce(command);
            case "consume" -> consume(command);
            case "create" -> create(command);
            case "delete" -> delete(command);
            case "describe" -> describe(command);
            case "configs" -> configs(command);
            case "times" -> times(command);
            case "join" -> join(command);
            case "poll" -> poll(command);
            case "commit" -> commit(command);
            case "committed" -> committed(command);
            case "leave" -> leave(command);
            case "init" -> init(command);
            case "begin", "send", "offsets", "end", "close" -> transact(command);
            case "load" -> load(command);
            case "stop" -> stop();
            default -> throw new IllegalArgumentException("unknown command " + command);
        };
    }

    private Properties client(Map<String, String> settings) {
        Properties all = new Properties();
        all.put("bootstrap.servers", bootstrap);
        all.put("reconnect.backoff.max.ms", "200");
        all.putAll(settings);
        return all;
    }

    private KafkaProducer<byte[], byte[]> producer(JsonNode command) {
        Properties settings = client(Map.of(
            "compression.type", command.path("codec").asText("none"),
            "enable.idempotence", command.path("idempotent").asText("true"),
            "max.request.size", "20000000",
            "linger.ms", command.path("linger_ms").asText("5"),
            "acks", "all"));
        settings.put("delivery.timeout.ms", command.path("timeout_ms").asText("30000"));
        settings.put("request.timeout.ms", "10000");
        settings.put("max.block.ms", command.path("timeout_ms").asText("30000"));
        if (command.hasNonNull("transactional")) {
            settings.put("transactional.id", command.get("transactional").asText());
            settings.put("transaction.timeout.ms", "30000");
        }
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private JsonNode produce(JsonNode command) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(command)) {
            return send(producer, command);
        }
    }

    private static JsonNode send(KafkaProducer<byte[], byte[]> producer, JsonNode command) throws InterruptedException {
        ArrayNode acks = JSON.createArrayNode();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode record : command.get("records")) {
            sent.add(producer.send(record(command.get("topic").asText(), record)));
        }
        producer.flush();
        for (Future<RecordMetadata> one : sent) {
            acks.add(ack(one));
        }
        return JSON.createObjectNode().set("acks", acks);
    }

    private JsonNode init(JsonNode command) {
        KafkaProducer<byte[], byte[]> producer = producer(command);
        producers.put(command.get("producer").asText(), producer);
        producer.initTransactions();
        return JSON.createObjectNode();
    }

    private JsonNode transact(JsonNode command) throws Exception {
        KafkaProducer<byte[], byte[]> producer = producers.get(command.get("producer").asText());
        switch (command.get("op").asText()) {
            case "begin" -> producer.beginTransaction();
            case "send" -> {
                return send(producer, command);
            }
            case "offsets" -> {
                KafkaConsumer<byte[], byte[]> member = member(command);
                Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
                member.assignment().forEach(at -> positions.put(at, new OffsetAndMetadata(member.position(at))));
                producer.sendOffsetsToTransaction(positions, member.groupMetadata());
            }
            case "end" -> {
                if (command.get("commit").asBoolean()) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
            default -> {
                producers.remove(command.get("producer").asText());
                producer.close(Duration.ofSeconds(1));
            }
        }
        return JSON.createObjectNode();
    }

    private static ObjectNode ack(Future<RecordMetadata> sent) throws InterruptedException {
        ObjectNode ack = JSON.createObjectNode();
        try {
            ack.put("partition", sent.get().partition());
            ack.put("offset", sent.get().offset());
        } catch (ExecutionException refused) {
            ack.put("error", refused.getCause().toString());
        }
        return ack;
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, JsonNode record) {
        List<Header> headers = new ArrayList<>();
        for (JsonNode header : record.path("headers")) {
            headers.add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
        }
        JsonNode timestamp = record.path("timestamp");
        return new ProducerRecord<>(topic, record.path("partition").asInt(0),
            timestamp.isIntegralNumber() ? timestamp.asLong() : null,
            bytes(record.path("key")), bytes(record.path("value")), headers);
    }

    private static byte[] bytes(JsonNode text) {
        return text.isTextual() ? Base64.getDecoder().decode(text.asText()) : null;
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }

    private static ObjectNode seen(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode seen = JSON.createObjectNode();
        seen.put("partition", record.partition());
        seen.put("offset", record.offset());
        seen.put("timestamp", record.timestamp());
        seen.put("timestamp_type", record.timestampType() == TimestampType.LOG_APPEND_TIME ? "append" : "create");
        seen.put("key", text(record.key()));
        seen.put("value", text(record.value()));
        ArrayNode headers = seen.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(text(header.value()));
        }
        return seen;
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, String> settings) {
        Properties all = client(settings);
        all.putIfAbsent("auto.offset.reset", "earliest");
        all.put("enable.auto.commit", "false");
        all.put("default.api.timeout.ms", "30000");
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static TopicPartition partition(JsonNode command) {
        return new TopicPartition(command.get("topic").asText(), command.path("partition").asInt(0));
    }

    private static Map<String, String> isolation(JsonNode command) {
        return Map.of("isolation.level", command.path("committed").asBoolean() ? "read_committed" : "read_uncommitted");
    }

    private JsonNode consume(JsonNode command) {
        ArrayNode records = JSON.createArrayNode();
        long deadline = System.currentTimeMillis() + command.path("timeout_ms").asLong(20000);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(isolation(command))) {
            TopicPartition partition = partition(command);
            consumer.assign(List.of(partition));
            consumer.seek(partition, command.path("offset").asLong(0));
            while (records.size() < command.get("count").asInt() && System.currentTimeMillis() < deadline) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    records.add(seen(record));
                }
            }
        }
        return JSON.createObjectNode().set("records", records);
    }

    private JsonNode create(JsonNode command) throws Exception {
        Map<String, String> configs = new HashMap<>();
        command.path("configs").properties().forEach(entry -> configs.put(entry.getKey(), entry.getValue().asText()));
        NewTopic topic = new NewTopic(command.get("topic").asText(), command.path("partitions").asInt(1), (short) 1);
        admin.createTopics(List.of(topic.configs(configs))).all().get();
        return JSON.createObjectNode();
    }

    private JsonNode delete(JsonNode command) throws Exception {
        admin.deleteTopics(List.of(command.get("topic").asText())).all().get();
        return JSON.createObjectNode();
    }

    private JsonNode describe(JsonNode command) throws Exception {
        String name = command.get("topic").asText();
        TopicDescription topic = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
        return JSON.createObjectNode().put("partitions", topic.partitions().size()).put("id", topic.topicId().toString());
    }

    private JsonNode configs(JsonNode command) throws Exception {
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, command.get("topic").asText());
        Config config = admin.describeConfigs(List.of(topic)).all().get().get(topic);
        ObjectNode all = JSON.createObjectNode();
        config.entries().forEach(entry -> all.put(entry.name(), entry.value()));
        return JSON.createObjectNode().set("configs", all);
    }

    private JsonNode times(JsonNode command) throws Exception {
        ArrayNode offsets = JSON.createArrayNode();
        TopicPartition partition = partition(command);
        for (JsonNode timestamp : command.get("timestamps")) {
            OffsetSpec spec = switch ((int) Math.max(timestamp.asLong(), -100)) {
                case -1 -> OffsetSpec.latest();
                case -2 -> OffsetSpec.earliest();
                case -3 -> OffsetSpec.maxTimestamp();
                default -> OffsetSpec.forTimestamp(timestamp.asLong());
            };
            long offset = admin.listOffsets(Map.of(partition, spec)).all().get().get(partition).offset();
            if (offset < 0) {
                offsets.addNull();
            } else {
                offsets.add(offset);
            }
        }
        return JSON.createObjectNode().set("offsets", offsets);
    }

    private JsonNode join(JsonNode command) {
        Map<String, String> settings = new HashMap<>();
        settings.put("group.id", command.get("group").asText());
        if (command.path("protocol").asText().equals("consumer")) {
            settings.put("group.protocol", "consumer");
        } else {
            settings.put("session.timeout.ms", command.path("session_timeout_ms").asText("10000"));
            settings.put("heartbeat.interval.ms", "500");
        }
        if (command.hasNonNull("instance")) {
            settings.put("group.instance.id", command.get("instance").asText());
        }
        if (command.path("cooperative").asBoolean()) {
            settings.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
        }
        KafkaConsumer<byte[], byte[]> member = consumer(settings);
        if (command.hasNonNull("pattern")) {
            member.subscribe(new SubscriptionPattern(command.get("pattern").asText()));
        } else {
            member.subscribe(Set.of(command.get("topic").asText()));
        }
        members.put(command.get("member").asText(), member);
        return JSON.createObjectNode();
    }

    private KafkaConsumer<byte[], byte[]> member(JsonNode command) {
        return members.get(command.get("member").asText());
    }

    private JsonNode poll(JsonNode command) {
        KafkaConsumer<byte[], byte[]> member = member(command);
        ObjectNode answer = JSON.createObjectNode();
        ArrayNode records = answer.putArray("records");
        for (ConsumerRecord<byte[], byte[]> record : member.poll(Duration.ofMillis(command.path("timeout_ms").asLong(300)))) {
            records.add(seen(record));
        }
        ArrayNode assigned = answer.putArray("assigned");
        member.assignment().stream().map(TopicPartition::partition).sorted().forEach(assigned::add);
        return answer;
    }

    private JsonNode commit(JsonNode command) {
        member(command).commitSync();
        return JSON.createObjectNode();
    }

    private JsonNode committed(JsonNode command) {
        TopicPartition partition = partition(command);
        OffsetAndMetadata offset = member(command).committed(Set.of(partition)).get(partition);
        ObjectNode answer = JSON.createObjectNode();
        return offset == null ? answer.putNull("offset") : answer.put("offset", offset.offset());
    }

    private JsonNode leave(JsonNode command) {
        members.remove(command.get("member").asText()).close();
        return JSON.createObjectNode();
    }

    private JsonNode load(JsonNode command) throws Exception {
        load = new Load(producer(command), command);
        load.start();
        return JSON.createObjectNode();
    }

    private JsonNode stop() throws Exception {
        load.running = false;
        load.join();
        return JSON.createObjectNode().put("sent", load.counter).put("failed", load.failed);
    }

    /** Produces counted records until it is told to stop and writes one line for each ack. */
    private static final class Load extends Thread {
        private final KafkaProducer<byte[], byte[]> producer;
        private final JsonNode command;
        private final PrintWriter acks;
        private volatile boolean running = true;
        private volatile String failed;
        private long counter;

        Load(KafkaProducer<byte[], byte[]> producer, JsonNode command) throws Exception {
            this.producer = producer;
            this.command = command;
            this.acks = new PrintWriter(command.get("path").asText(), StandardCharsets.UTF_8);
        }

        @Override
        public void run() {
            String topic = command.get("topic").asText();
            String name = command.get("producer").asText();
            int partitions = command.get("partitions").asInt();
            int bytes = command.get("bytes").asInt();
            long pause = 1_000_000_000L / command.get("rate").asLong();
            long due = System.nanoTime();
            while (running && failed == null) {
                long number = counter++;
                int partition = (int) (number % partitions);
                StringBuilder value = new StringBuilder(name + ":" + number + ":");
                for (int i = 0; i < bytes; i++) {
                    value.append((char) ('a' + (number + i) % 26));
                }
                byte[] record = value.toString().getBytes(StandardCharsets.US_ASCII);
                producer.send(new ProducerRecord<>(topic, partition, null, record), (metadata, refused) -> {
                    if (refused != null) {
                        failed = number + ": " + refused;
                    } else {
                        acks.println(number + " " + metadata.partition() + " " + metadata.offset());
                    }
                });
                due += pause;
                long ahead = due - System.nanoTime();
                if (ahead > 0) {
                    java.util.concurrent.locks.LockSupport.parkNanos(ahead);
                } else if (ahead < -1_000_000_000L) {
                    due = System.nanoTime();
                }
            }
            producer.close();
            acks.close();
        }
    }
}
