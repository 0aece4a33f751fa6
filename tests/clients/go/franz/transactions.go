package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"millrace/clienttests/lines"
)

// transactional is a producer with an id: a client of its own, or a member's, who commits its offsets with it.
type transactional struct {
	client  *kgo.Client
	session *kgo.GroupTransactSession
}

// transact obeys the commands about a transactional producer.
func (d *driver) transact(ctx context.Context, c *lines.Command) (answer, error) {
	if c.Op == "init" {
		return answer{}, d.init(ctx, c)
	}
	p := d.producers[c.Producer]
	switch c.Op {
	case "begin":
		return answer{}, p.client.BeginTransaction()
	case "send":
		acks, err := send(ctx, p.client, c)
		return answer{"acks": acks}, err
	case "offsets":
		// The session does so by itself when it commits.
		if p.session == nil || p.session != d.members[c.Member].session {
			return nil, fmt.Errorf("%q joined without this producer's id", c.Member)
		}
		return answer{}, nil
	case "end":
		return answer{}, p.end(ctx, kgo.TransactionEndTry(c.Commit))
	case "close":
		delete(d.producers, c.Producer)
		if p.session == nil {
			p.client.Close()
		}
		return answer{}, nil
	}
	return nil, fmt.Errorf("unknown command %q", c.Op)
}

func (d *driver) init(ctx context.Context, c *lines.Command) error {
	p := &transactional{}
	if m := d.members[c.Member]; m != nil {
		p.client, p.session = m.client, m.session
	} else {
		opts := append(producing(c), kgo.TransactionalID(c.Transactional), kgo.TransactionTimeout(30*time.Second))
		client, err := d.client(opts...)
		if err != nil {
			return err
		}
		p.client = client
	}
	d.producers[c.Producer] = p
	// The library would ask for its producer id when it needs it first.
	_, _, err := p.client.ProducerID(ctx)
	return err
}

func (p *transactional) end(ctx context.Context, commit kgo.TransactionEndTry) error {
	if p.session == nil {
		return p.client.EndTransaction(ctx, commit)
	}
	committed, err := p.session.End(ctx, commit)
	if err == nil && committed != bool(commit) {
		return errors.New("the session aborted")
	}
	return err
}
