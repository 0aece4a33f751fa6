package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"millrace/clienttests/lines"
)

// member is one consumer of a group: sarama hands records to it as they come, poll takes what has come.
type member struct {
	name     string
	topic    string
	instance string
	group    sarama.ConsumerGroup
	stop     context.CancelFunc
	done     chan struct{}
	arrived  chan struct{}

	mu      sync.Mutex
	session sarama.ConsumerGroupSession
	waiting []*sarama.ConsumerMessage
	// The last record that poll gave away, by partition.
	polled map[int32]*sarama.ConsumerMessage
	failed error
}

func (d *driver) join(c *lines.Command) (answer, error) {
	s := settings()
	s.Consumer.Return.Errors = true
	s.Consumer.Group.Session.Timeout = c.Session()
	s.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	s.Consumer.Group.InstanceId = c.Instance
	s.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	if c.Cooperative {
		s.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	}
	group, err := sarama.NewConsumerGroup(d.bootstrap, c.Group, s)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &member{name: c.Group, topic: c.Topic, instance: c.Instance, group: group, stop: stop,
		done: make(chan struct{}), arrived: make(chan struct{}, 1), polled: map[int32]*sarama.ConsumerMessage{}}
	d.members[c.Member] = m
	go m.run(ctx)
	go func() {
		for err := range group.Errors() {
			m.fail(err)
		}
	}()
	return answer{}, nil
}

// run consumes session after session; each ends with a rebalance.
func (m *member) run(ctx context.Context) {
	defer close(m.done)
	for ctx.Err() == nil {
		if err := m.group.Consume(ctx, []string{m.topic}, m); err != nil {
			m.fail(err)
			return
		}
	}
}

func (m *member) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = err
}

// Setup begins a session.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = session
	return nil
}

// Cleanup ends it.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = nil
	return nil
}

// ConsumeClaim takes one partition's records until it is revoked; what nobody has polled by then is another's to read.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	defer m.forget(claim.Partition())
	for {
		select {
		case one, open := <-claim.Messages():
			if !open {
				return nil
			}
			m.mu.Lock()
			m.waiting = append(m.waiting, one)
			m.mu.Unlock()
			select {
			case m.arrived <- struct{}{}:
			default:
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *member) forget(partition int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.polled, partition)
	var kept []*sarama.ConsumerMessage
	for _, one := range m.waiting {
		if one.Partition != partition {
			kept = append(kept, one)
		}
	}
	m.waiting = kept
}

func (m *member) poll(c *lines.Command) (answer, error) {
	select {
	case <-m.arrived:
	case <-time.After(c.Timeout(300 * time.Millisecond)):
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	records := []lines.Record{}
	for _, one := range m.waiting {
		records = append(records, fromWire(one))
		m.polled[one.Partition] = one
	}
	m.waiting = nil
	assigned := []int32{}
	if m.session != nil {
		assigned = lines.Sorted(m.session.Claims()[m.topic])
	}
	return answer{"records": records, "assigned": assigned}, m.failed
}

func (m *member) commit() (answer, error) {
	m.mu.Lock()
	session := m.session
	if session == nil {
		m.mu.Unlock()
		return nil, errors.New("a rebalance is under way")
	}
	for _, one := range m.polled {
		session.MarkMessage(one, "")
	}
	m.mu.Unlock()
	// Without the lock: what goes wrong is told on the channel of errors.
	session.Commit()
	m.mu.Lock()
	defer m.mu.Unlock()
	return answer{}, m.failed
}

func (m *member) leave() error {
	m.stop()
	<-m.done
	return m.group.Close()
}
