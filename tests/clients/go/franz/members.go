package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"millrace/clienttests/lines"
)

// member is one consumer of a group and what it is assigned now.
type member struct {
	client *kgo.Client
	// The client that also produces transactions, where the member was told a transactional id.
	session  *kgo.GroupTransactSession
	group    string
	mu       sync.Mutex
	assigned map[int32]bool
}

func (d *driver) join(c *lines.Command) (answer, error) {
	m := &member{group: c.Group, assigned: map[int32]bool{}}
	gained := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		m.change(partitions[c.Topic], true)
	}
	lost := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		m.change(partitions[c.Topic], false)
	}
	opts := []kgo.Opt{
		kgo.ConsumerGroup(c.Group), kgo.ConsumeTopics(c.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(c.Session()), kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(gained), kgo.OnPartitionsRevoked(lost), kgo.OnPartitionsLost(lost),
	}
	switch {
	case c.Protocol == "consumer":
		opts = append(opts, kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer())
	case c.Cooperative:
		opts = append(opts, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	default:
		// The balancers that every classic client knows, so that languages can share a group.
		opts = append(opts, kgo.Balancers(kgo.RangeBalancer(), kgo.RoundRobinBalancer()))
	}
	if c.Instance != "" {
		opts = append(opts, kgo.InstanceID(c.Instance))
	}
	var err error
	if c.Transactional != "" {
		opts = append(d.common(), append(opts, append(producing(c), kgo.TransactionalID(c.Transactional))...)...)
		if m.session, err = kgo.NewGroupTransactSession(opts...); err == nil {
			m.client = m.session.Client()
		}
	} else {
		m.client, err = d.client(opts...)
	}
	d.members[c.Member] = m
	return answer{}, err
}

func (m *member) change(partitions []int32, gained bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, partition := range partitions {
		if gained {
			m.assigned[partition] = true
		} else {
			delete(m.assigned, partition)
		}
	}
}

func (m *member) poll(c *lines.Command) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout(300*time.Millisecond))
	defer cancel()
	records := []lines.Record{}
	fetches := m.client.PollFetches(ctx)
	fetches.EachRecord(func(one *kgo.Record) { records = append(records, fromWire(one)) })
	m.mu.Lock()
	defer m.mu.Unlock()
	return answer{"records": records, "assigned": lines.Sorted(slices.Collect(maps.Keys(m.assigned)))}, nil
}

// load produces counted records until it is told to stop and writes one line for each ack.
type load struct {
	client  *kgo.Client
	quit    chan struct{}
	done    chan struct{}
	counter int64
	mu      sync.Mutex
	failed  any
}

func (d *driver) startLoad(c *lines.Command) (answer, error) {
	client, err := d.client(producing(c)...)
	if err != nil {
		return nil, err
	}
	file, err := os.Create(c.Path)
	if err != nil {
		return nil, err
	}
	d.load = &load{client: client, quit: make(chan struct{}), done: make(chan struct{})}
	go d.load.run(c, file)
	return answer{}, nil
}

func (l *load) run(c *lines.Command, file *os.File) {
	defer close(l.done)
	acks := bufio.NewWriter(file)
	due := time.Now()
	for l.wait(&due, c.Rate) {
		number := l.counter
		l.counter++
		value := fmt.Appendf(nil, "%s:%d:", c.Producer, number)
		for i := range int64(c.Bytes) {
			value = append(value, byte('a'+(number+i)%26))
		}
		one := &kgo.Record{Topic: c.Topic, Partition: int32(number % int64(c.Partitions)), Value: value}
		l.client.Produce(context.Background(), one, func(done *kgo.Record, err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if err != nil {
				l.failed = fmt.Sprintf("%d: %v", number, err)
			} else {
				fmt.Fprintln(acks, number, done.Partition, done.Offset)
			}
		})
	}
	if err := l.client.Flush(context.Background()); err != nil {
		l.failed = err.Error()
	}
	l.client.Close()
	_ = acks.Flush()
	_ = file.Close()
}

// wait holds the rate and says whether to go on.
func (l *load) wait(due *time.Time, rate int64) bool {
	*due = due.Add(time.Second / time.Duration(rate))
	ahead := time.Until(*due)
	if ahead < -time.Second {
		*due = time.Now()
	}
	select {
	case <-l.quit:
		return false
	case <-time.After(max(ahead, 0)):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed == nil
}

func (l *load) stop() (answer, error) {
	close(l.quit)
	<-l.done
	return answer{"sent": l.counter, "failed": l.failed}, nil
}
