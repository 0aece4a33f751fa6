package main

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"millrace/clienttests/lines"
)

// transact obeys the commands about a transactional producer.
func (d *driver) transact(c *lines.Command) (answer, error) {
	if c.Op == "init" {
		s := producing(c)
		s.Producer.Transaction.ID = c.Transactional
		s.Producer.Transaction.Timeout = 30 * time.Second
		producer, err := sarama.NewSyncProducer(d.bootstrap, s)
		if err == nil {
			d.producers[c.Producer] = producer
		}
		return answer{}, err
	}
	producer := d.producers[c.Producer]
	switch c.Op {
	case "begin":
		return answer{}, producer.BeginTxn()
	case "send":
		return answer{"acks": send(producer, c)}, nil
	case "offsets":
		return answer{}, d.offsets(producer, d.members[c.Member])
	case "end":
		if c.Commit {
			return answer{}, producer.CommitTxn()
		}
		return answer{}, producer.AbortTxn()
	case "close":
		delete(d.producers, c.Producer)
		return answer{}, producer.Close()
	}
	return nil, fmt.Errorf("unknown command %q", c.Op)
}

// offsets puts what a member has polled into the transaction, under the member's name and generation.
func (d *driver) offsets(producer sarama.SyncProducer, m *member) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.session == nil {
		return fmt.Errorf("a rebalance is under way")
	}
	var instance *string
	if m.instance != "" {
		instance = &m.instance
	}
	offsets := map[string][]*sarama.PartitionOffsetMetadata{}
	for partition, one := range m.polled {
		offsets[m.topic] = append(offsets[m.topic], &sarama.PartitionOffsetMetadata{Partition: partition, Offset: one.Offset + 1})
	}
	metadata := sarama.NewConsumerGroupMetadataFromSession(m.session, m.name, instance)
	return producer.AddOffsetsToTxnWithGroupMetadata(offsets, metadata)
}
