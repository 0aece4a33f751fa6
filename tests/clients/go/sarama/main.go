// sarama behind the driver protocol: a command per line in, an answer per line out. See ../../DRIVERS.md.
//
// A client stands behind every consumer and producer, so each command closes its own.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/IBM/sarama"
	"millrace/clienttests/lines"
)

type driver struct {
	bootstrap []string
	admin     sarama.ClusterAdmin
	client    sarama.Client
	members   map[string]*member
	producers map[string]sarama.SyncProducer
}

type answer = lines.Answer

func main() {
	sarama.Logger = log.New(io.Discard, "", 0)
	d := &driver{
		bootstrap: []string{os.Args[1]},
		members:   map[string]*member{},
		producers: map[string]sarama.SyncProducer{},
	}
	var err error
	if d.client, err = sarama.NewClient(d.bootstrap, settings()); err != nil {
		panic(err)
	}
	if d.admin, err = sarama.NewClusterAdminFromClient(d.client); err != nil {
		panic(err)
	}
	lines.Serve(func(c *lines.Command) (answer, error) {
		ok, err := d.act(c)
		return ok, coded(err)
	})
}

// coded adds Kafka's number of an error: sarama's words for it are its own.
func coded(err error) error {
	var code sarama.KError
	if errors.As(err, &code) {
		return fmt.Errorf("%w (%d)", err, int16(code))
	}
	return err
}

func settings() *sarama.Config {
	s := sarama.NewConfig()
	s.Version = sarama.MaxVersion
	s.Metadata.Retry.Backoff = 100 * time.Millisecond
	s.Metadata.AllowAutoTopicCreation = false
	s.Consumer.Offsets.AutoCommit.Enable = false
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	s.Consumer.MaxWaitTime = 200 * time.Millisecond
	return s
}

func (d *driver) act(c *lines.Command) (answer, error) {
	switch c.Op {
	case "produce":
		return d.produce(c)
	case "consume":
		return d.consume(c)
	case "create":
		configs := map[string]*string{}
		for name, value := range c.Configs {
			configs[name] = &value
		}
		detail := &sarama.TopicDetail{NumPartitions: max(c.Partitions, 1), ReplicationFactor: 1, ConfigEntries: configs}
		return answer{}, d.admin.CreateTopic(c.Topic, detail, false)
	case "delete":
		return answer{}, d.admin.DeleteTopic(c.Topic)
	case "describe":
		return d.describe(c)
	case "configs":
		return d.configs(c)
	case "times":
		return d.times(c)
	case "join":
		return d.join(c)
	case "poll":
		return d.members[c.Member].poll(c)
	case "commit":
		return d.members[c.Member].commit()
	case "committed":
		return d.committed(c)
	case "leave":
		m := d.members[c.Member]
		delete(d.members, c.Member)
		return answer{}, m.leave()
	case "init", "begin", "send", "offsets", "end", "close":
		return d.transact(c)
	}
	return nil, fmt.Errorf("unknown command %q", c.Op)
}

func producing(c *lines.Command) *sarama.Config {
	s := settings()
	s.Producer.RequiredAcks = sarama.WaitForAll
	s.Producer.Return.Successes = true
	s.Producer.Partitioner = sarama.NewManualPartitioner
	s.Producer.MaxMessageBytes = 20_000_000
	s.Producer.Timeout = 10 * time.Second
	s.Producer.Flush.Frequency = 5 * time.Millisecond
	s.Producer.Idempotent = c.Idempotent == nil || *c.Idempotent
	s.Net.MaxOpenRequests = 1
	codecs := map[string]sarama.CompressionCodec{
		"gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	s.Producer.Compression = codecs[c.Codec]
	return s
}

func (d *driver) produce(c *lines.Command) (answer, error) {
	producer, err := sarama.NewSyncProducer(d.bootstrap, producing(c))
	if err != nil {
		return nil, err
	}
	acks := send(producer, c)
	return answer{"acks": acks}, producer.Close()
}

// send waits for every record's ack.
func send(producer sarama.SyncProducer, c *lines.Command) []answer {
	messages := make([]*sarama.ProducerMessage, len(c.Records))
	acks := make([]answer, len(c.Records))
	for i := range c.Records {
		messages[i] = toWire(c.Topic, &c.Records[i])
		messages[i].Metadata = i
	}
	var failed sarama.ProducerErrors
	err := producer.SendMessages(messages)
	for i, done := range messages {
		acks[i] = answer{"partition": done.Partition, "offset": done.Offset}
	}
	if errors.As(err, &failed) {
		for _, one := range failed {
			acks[one.Msg.Metadata.(int)] = answer{"error": coded(one.Err).Error()}
		}
	}
	return acks
}

func toWire(topic string, r *lines.Record) *sarama.ProducerMessage {
	one := &sarama.ProducerMessage{Topic: topic, Partition: r.Partition}
	// A null is an encoder that is not there.
	if r.Key != nil {
		one.Key = sarama.ByteEncoder(*r.Key)
	}
	if r.Value != nil {
		one.Value = sarama.ByteEncoder(*r.Value)
	}
	if r.Timestamp != nil {
		one.Timestamp = time.UnixMilli(*r.Timestamp)
	}
	for _, header := range r.Headers {
		one.Headers = append(one.Headers, sarama.RecordHeader{Key: []byte(header.Key), Value: header.Value})
	}
	return one
}

// fromWire says nothing of the timestamp's type: sarama does not.
func fromWire(one *sarama.ConsumerMessage) lines.Record {
	timestamp := one.Timestamp.UnixMilli()
	seen := lines.Record{Partition: one.Partition, Offset: one.Offset, Timestamp: &timestamp,
		Key: lines.Field(one.Key), Value: lines.Field(one.Value), Headers: []lines.Header{}}
	for _, header := range one.Headers {
		seen.Headers = append(seen.Headers, lines.Header{Key: string(header.Key), Value: header.Value})
	}
	return seen
}

func (d *driver) consume(c *lines.Command) (answer, error) {
	s := settings()
	if c.Committed {
		s.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	consumer, err := sarama.NewConsumer(d.bootstrap, s)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(c.Topic, c.Partition, c.Offset)
	if err != nil {
		return nil, err
	}
	defer partition.Close()
	records := []lines.Record{}
	deadline := time.After(c.Timeout(20 * time.Second))
	for len(records) < c.Count {
		select {
		case one := <-partition.Messages():
			records = append(records, fromWire(one))
		case <-deadline:
			return answer{"records": records}, nil
		}
	}
	return answer{"records": records}, nil
}

func (d *driver) describe(c *lines.Command) (answer, error) {
	topics, err := d.admin.DescribeTopics([]string{c.Topic})
	if err != nil {
		return nil, err
	}
	if topics[0].Err != sarama.ErrNoError {
		return nil, topics[0].Err
	}
	return answer{"partitions": len(topics[0].Partitions), "id": topics[0].Uuid.String()}, nil
}

func (d *driver) configs(c *lines.Command) (answer, error) {
	entries, err := d.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: c.Topic})
	configs := map[string]string{}
	for _, entry := range entries {
		configs[entry.Name] = entry.Value
	}
	return answer{"configs": configs}, err
}

func (d *driver) times(c *lines.Command) (answer, error) {
	offsets := []*int64{}
	for _, timestamp := range c.Timestamps {
		offset, err := d.client.GetOffset(c.Topic, c.Partition, timestamp)
		switch {
		case err != nil:
			return nil, err
		case offset < 0:
			offsets = append(offsets, nil)
		default:
			offsets = append(offsets, &offset)
		}
	}
	return answer{"offsets": offsets}, nil
}

func (d *driver) committed(c *lines.Command) (answer, error) {
	all, err := d.admin.ListConsumerGroupOffsets(d.members[c.Member].name, map[string][]int32{c.Topic: {c.Partition}})
	if err != nil {
		return nil, err
	}
	if block := all.GetBlock(c.Topic, c.Partition); block != nil && block.Offset >= 0 {
		return answer{"offset": block.Offset}, nil
	}
	return answer{"offset": nil}, nil
}
