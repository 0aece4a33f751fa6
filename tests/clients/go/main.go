// franz-go behind the driver protocol: a command per line in, an answer per line out. See ../DRIVERS.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type record struct {
	Partition     int32      `json:"partition"`
	Offset        int64      `json:"offset"`
	Timestamp     *int64     `json:"timestamp"`
	TimestampType string     `json:"timestamp_type,omitempty"`
	Key           *[]byte    `json:"key"`
	Value         *[]byte    `json:"value"`
	Headers       [][2]field `json:"headers"`
}

// field is a header's name, as plain text, or its value, as base64 or null.
type field = any

type command struct {
	Op         string            `json:"op"`
	Topic      string            `json:"topic"`
	Partition  int32             `json:"partition"`
	Partitions int32             `json:"partitions"`
	Offset     int64             `json:"offset"`
	Count      int               `json:"count"`
	TimeoutMs  int               `json:"timeout_ms"`
	SessionMs  int               `json:"session_timeout_ms"`
	Codec      string            `json:"codec"`
	Idempotent *bool             `json:"idempotent"`
	Records    []record          `json:"records"`
	Configs    map[string]string `json:"configs"`
	Timestamps []int64           `json:"timestamps"`
	Group      string            `json:"group"`
	Member     string            `json:"member"`
	Producer   string            `json:"producer"`
	Rate       int64             `json:"rate"`
	Bytes      int               `json:"bytes"`
	Path       string            `json:"path"`
}

type driver struct {
	bootstrap string
	admin     *kadm.Client
	members   map[string]*member
	load      *load
}

type answer = map[string]any

func main() {
	d := &driver{bootstrap: os.Args[1], members: map[string]*member{}}
	client, err := d.client()
	if err != nil {
		panic(err)
	}
	d.admin = kadm.NewClient(client)
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var c command
		err = json.Unmarshal(line, &c)
		var ok answer
		if err == nil {
			ok, err = d.act(&c)
		}
		if err != nil {
			_ = out.Encode(answer{"error": err.Error()})
		} else {
			_ = out.Encode(answer{"ok": ok})
		}
	}
}

func (d *driver) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(d.bootstrap),
		kgo.RetryTimeout(30 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, opts...)...)
}

func (d *driver) act(c *command) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	switch c.Op {
	case "produce":
		return d.produce(ctx, c)
	case "consume":
		return d.consume(ctx, c)
	case "create":
		configs := map[string]*string{}
		for name, value := range c.Configs {
			configs[name] = &value
		}
		_, err := d.admin.CreateTopic(ctx, max(c.Partitions, 1), 1, configs, c.Topic)
		return answer{}, err
	case "delete":
		_, err := d.admin.DeleteTopic(ctx, c.Topic)
		return answer{}, err
	case "describe":
		return d.describe(ctx, c)
	case "configs":
		return d.configs(ctx, c)
	case "times":
		return d.times(ctx, c)
	case "join":
		return d.join(c)
	case "poll":
		return d.members[c.Member].poll(c)
	case "commit":
		return answer{}, d.members[c.Member].client.CommitUncommittedOffsets(ctx)
	case "committed":
		return d.committed(ctx, c)
	case "leave":
		d.members[c.Member].client.CloseAllowingRebalance()
		delete(d.members, c.Member)
		return answer{}, nil
	case "load":
		return d.startLoad(c)
	case "stop":
		return d.load.stop()
	}
	return nil, fmt.Errorf("unknown command %q", c.Op)
}

func (d *driver) producer(c *command) (*kgo.Client, error) {
	codecs := map[string]kgo.CompressionCodec{
		"gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, known := codecs[c.Codec]
	if !known {
		codec = kgo.NoCompression()
	}
	// No RecordDeliveryTimeout: franz-go counts it from the record's timestamp, which the tests choose.
	opts := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(20_000_000),
		kgo.ProduceRequestTimeout(10 * time.Second),
		kgo.RecordRetries(1 << 30),
		kgo.ProducerLinger(5 * time.Millisecond),
	}
	if c.Idempotent != nil && !*c.Idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	return d.client(opts...)
}

func (d *driver) produce(ctx context.Context, c *command) (answer, error) {
	client, err := d.producer(c)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if c.TimeoutMs > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.TimeoutMs)*time.Millisecond)
		defer cancel()
	}
	acks := make([]answer, len(c.Records))
	for i := range c.Records {
		one, err := toWire(c.Topic, &c.Records[i])
		if err != nil {
			return nil, err
		}
		client.Produce(ctx, one, func(done *kgo.Record, err error) {
			if err != nil {
				acks[i] = answer{"error": err.Error()}
			} else {
				acks[i] = answer{"partition": done.Partition, "offset": done.Offset}
			}
		})
	}
	return answer{"acks": acks}, client.Flush(ctx)
}

func toWire(topic string, r *record) (*kgo.Record, error) {
	one := &kgo.Record{Topic: topic, Partition: r.Partition}
	if r.Key != nil {
		one.Key = *r.Key
	}
	if r.Value != nil {
		one.Value = *r.Value
	}
	if r.Timestamp != nil {
		one.Timestamp = time.UnixMilli(*r.Timestamp)
	}
	for _, header := range r.Headers {
		name, _ := header[0].(string)
		var value []byte
		if text, given := header[1].(string); given {
			raw, err := json.Marshal(text)
			if err != nil {
				return nil, err
			}
			if err := json.Unmarshal(raw, &value); err != nil {
				return nil, err
			}
		}
		one.Headers = append(one.Headers, kgo.RecordHeader{Key: name, Value: value})
	}
	return one, nil
}

func fromWire(one *kgo.Record) record {
	timestamp := one.Timestamp.UnixMilli()
	seen := record{Partition: one.Partition, Offset: one.Offset, Timestamp: &timestamp, TimestampType: "create", Headers: [][2]field{}}
	if one.Attrs.TimestampType() == 1 {
		seen.TimestampType = "append"
	}
	if one.Key != nil {
		seen.Key = &one.Key
	}
	if one.Value != nil {
		seen.Value = &one.Value
	}
	for _, header := range one.Headers {
		var value field
		if header.Value != nil {
			value = header.Value
		}
		seen.Headers = append(seen.Headers, [2]field{header.Key, value})
	}
	return seen
}

func (d *driver) consume(ctx context.Context, c *command) (answer, error) {
	client, err := d.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.Topic: {c.Partition: kgo.NewOffset().At(c.Offset)}}),
		kgo.FetchMaxPartitionBytes(16<<20))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	timeout := 20 * time.Second
	if c.TimeoutMs > 0 {
		timeout = time.Duration(c.TimeoutMs) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	records := []record{}
	for len(records) < c.Count && ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil && ctx.Err() == nil {
			return nil, err
		}
		fetches.EachRecord(func(one *kgo.Record) { records = append(records, fromWire(one)) })
	}
	return answer{"records": records}, nil
}

func (d *driver) describe(ctx context.Context, c *command) (answer, error) {
	topics, err := d.admin.ListTopics(ctx, c.Topic)
	if err != nil {
		return nil, err
	}
	topic := topics[c.Topic]
	return answer{"partitions": len(topic.Partitions), "id": topic.ID.String()}, topic.Err
}

func (d *driver) configs(ctx context.Context, c *command) (answer, error) {
	all, err := d.admin.DescribeTopicConfigs(ctx, c.Topic)
	if err != nil {
		return nil, err
	}
	topic, err := all.On(c.Topic, nil)
	if err != nil {
		return nil, err
	}
	configs := map[string]string{}
	for _, config := range topic.Configs {
		configs[config.Key] = config.MaybeValue()
	}
	return answer{"configs": configs}, topic.Err
}

func (d *driver) times(ctx context.Context, c *command) (answer, error) {
	offsets := []*int64{}
	for _, timestamp := range c.Timestamps {
		var listed kadm.ListedOffsets
		var err error
		switch timestamp {
		case -1:
			listed, err = d.admin.ListEndOffsets(ctx, c.Topic)
		case -2:
			listed, err = d.admin.ListStartOffsets(ctx, c.Topic)
		case -3:
			listed, err = d.admin.ListMaxTimestampOffsets(ctx, c.Topic)
		default:
			// kadm turns "no such record" into the end offset and the timestamp -1.
			listed, err = d.admin.ListOffsetsAfterMilli(ctx, timestamp, c.Topic)
		}
		if err != nil {
			return nil, err
		}
		one, _ := listed.Lookup(c.Topic, c.Partition)
		if one.Err != nil {
			return nil, one.Err
		}
		if timestamp >= 0 && one.Timestamp < 0 || one.Offset < 0 {
			offsets = append(offsets, nil)
		} else {
			offsets = append(offsets, &one.Offset)
		}
	}
	return answer{"offsets": offsets}, nil
}

func (d *driver) committed(ctx context.Context, c *command) (answer, error) {
	all, err := d.admin.FetchOffsets(ctx, d.members[c.Member].group)
	if err != nil {
		return nil, err
	}
	if one, found := all.Lookup(c.Topic, c.Partition); found && one.At >= 0 {
		return answer{"offset": one.At}, one.Err
	}
	return answer{"offset": nil}, nil
}

func sorted(partitions map[int32]bool) []int32 {
	list := []int32{}
	for partition := range partitions {
		list = append(list, partition)
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return list
}
