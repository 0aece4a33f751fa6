// franz-go behind the driver protocol: a command per line in, an answer per line out. See ../../DRIVERS.md.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"millrace/clienttests/lines"
)

type driver struct {
	bootstrap string
	admin     *kadm.Client
	members   map[string]*member
	producers map[string]*transactional
	load      *load
}

type answer = lines.Answer

func main() {
	d := &driver{bootstrap: os.Args[1], members: map[string]*member{}, producers: map[string]*transactional{}}
	client, err := d.client()
	if err != nil {
		panic(err)
	}
	d.admin = kadm.NewClient(client)
	lines.Serve(d.act)
}

// common are the settings every client has.
func (d *driver) common() []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(d.bootstrap),
		kgo.RetryTimeout(30 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.MetadataMinAge(100 * time.Millisecond),
		// A broker that is killed while it is asked for its versions is no broker that wants TLS.
		kgo.AlwaysRetryEOF(),
	}
}

func (d *driver) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(d.common(), opts...)...)
}

func (d *driver) act(c *lines.Command) (answer, error) {
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
	case "init", "begin", "send", "offsets", "end", "close":
		return d.transact(ctx, c)
	case "load":
		return d.startLoad(c)
	case "stop":
		return d.load.stop()
	}
	return nil, fmt.Errorf("unknown command %q", c.Op)
}

func producing(c *lines.Command) []kgo.Opt {
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
	return opts
}

func (d *driver) produce(ctx context.Context, c *lines.Command) (answer, error) {
	client, err := d.client(producing(c)...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout(60*time.Second))
	defer cancel()
	acks, err := send(ctx, client, c)
	return answer{"acks": acks}, err
}

// send waits for every record's ack.
func send(ctx context.Context, client *kgo.Client, c *lines.Command) ([]answer, error) {
	acks := make([]answer, len(c.Records))
	for i := range c.Records {
		client.Produce(ctx, toWire(c.Topic, &c.Records[i]), func(done *kgo.Record, err error) {
			if err != nil {
				acks[i] = answer{"error": err.Error()}
			} else {
				acks[i] = answer{"partition": done.Partition, "offset": done.Offset}
			}
		})
	}
	return acks, client.Flush(ctx)
}

func toWire(topic string, r *lines.Record) *kgo.Record {
	one := &kgo.Record{Topic: topic, Partition: r.Partition, Key: lines.Bytes(r.Key), Value: lines.Bytes(r.Value)}
	if r.Timestamp != nil {
		one.Timestamp = time.UnixMilli(*r.Timestamp)
	}
	for _, header := range r.Headers {
		one.Headers = append(one.Headers, kgo.RecordHeader(header))
	}
	return one
}

func fromWire(one *kgo.Record) lines.Record {
	timestamp := one.Timestamp.UnixMilli()
	seen := lines.Record{Partition: one.Partition, Offset: one.Offset, Timestamp: &timestamp, TimestampType: "create",
		Key: lines.Field(one.Key), Value: lines.Field(one.Value), Headers: []lines.Header{}}
	if one.Attrs.TimestampType() == 1 {
		seen.TimestampType = "append"
	}
	for _, header := range one.Headers {
		seen.Headers = append(seen.Headers, lines.Header(header))
	}
	return seen
}

func (d *driver) consume(ctx context.Context, c *lines.Command) (answer, error) {
	isolation := kgo.ReadUncommitted()
	if c.Committed {
		isolation = kgo.ReadCommitted()
	}
	client, err := d.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.Topic: {c.Partition: kgo.NewOffset().At(c.Offset)}}),
		kgo.FetchMaxPartitionBytes(16<<20), kgo.FetchIsolationLevel(isolation))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout(20*time.Second))
	defer cancel()
	records := []lines.Record{}
	for len(records) < c.Count && ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil && ctx.Err() == nil {
			return nil, err
		}
		fetches.EachRecord(func(one *kgo.Record) { records = append(records, fromWire(one)) })
	}
	return answer{"records": records}, nil
}

func (d *driver) describe(ctx context.Context, c *lines.Command) (answer, error) {
	topics, err := d.admin.ListTopics(ctx, c.Topic)
	if err != nil {
		return nil, err
	}
	topic := topics[c.Topic]
	return answer{"partitions": len(topic.Partitions), "id": topic.ID.String()}, topic.Err
}

func (d *driver) configs(ctx context.Context, c *lines.Command) (answer, error) {
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

func (d *driver) times(ctx context.Context, c *lines.Command) (answer, error) {
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

func (d *driver) committed(ctx context.Context, c *lines.Command) (answer, error) {
	all, err := d.admin.FetchOffsets(ctx, d.members[c.Member].group)
	if err != nil {
		return nil, err
	}
	if one, found := all.Lookup(c.Topic, c.Partition); found && one.At >= 0 {
		return answer{"offset": one.At}, one.Err
	}
	return answer{"offset": nil}, nil
}
