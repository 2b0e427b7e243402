package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Outcome says what the broker did with a message.
type Outcome int

const (
	Confirmed Outcome = iota
	Returned          // no queue takes it
	Refused           // a queue is full, or cannot take it now
	Lost              // nobody knows: the channel or the connection ended first
)

// session is the life of one connection. It ends with its connection or with any of its channels.
type session struct {
	connection *amqp.Connection
	in         *amqp.Channel // declares, binds and consumes
	replies    string        // the private queue for the answers of workers
	requests   string        // the private queue for requests to stations
	gone       chan struct{}

	mu  sync.Mutex
	out *publisher // the channel to publish on
}

// open connects, and declares what a gateway needs: with the arguments of the contract, so it does not matter who
// comes first.
func open(url string) (*session, error) {
	connection, err := amqp.DialConfig(url, amqp.Config{Heartbeat: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	s := &session{connection: connection, gone: make(chan struct{})}
	if err := s.declare(); err != nil {
		connection.Close()
		return nil, err
	}
	go func() {
		select {
		case <-connection.NotifyClose(make(chan *amqp.Error, 1)):
		case <-s.in.NotifyClose(make(chan *amqp.Error, 1)):
			connection.Close()
		}
		close(s.gone)
	}()
	return s, nil
}

func (s *session) declare() (err error) {
	if s.in, err = s.connection.Channel(); err != nil {
		return err
	}
	for _, exchange := range []struct {
		name, kind string
		arguments  amqp.Table
	}{
		{"datatransfer.unrouted", "fanout", nil},
		{"datatransfer", "direct", amqp.Table{"alternate-exchange": "datatransfer.unrouted"}},
		{"datatransfer.stations", "direct", nil},
	} {
		if err := s.in.ExchangeDeclare(exchange.name, exchange.kind, true, false, false, false, exchange.arguments); err != nil {
			return fmt.Errorf("exchange %s: %w", exchange.name, err)
		}
	}
	// Exclusive, auto-delete, and the broker makes their names: nobody else can have them.
	for _, name := range []*string{&s.replies, &s.requests} {
		queue, err := s.in.QueueDeclare("", false, true, true, false, nil)
		if err != nil {
			return err
		}
		*name = queue.Name
	}
	if err := s.in.Qos(prefetch, 0, false); err != nil {
		return err
	}
	s.out, err = newPublisher(s)
	return err
}

func (s *session) bind(stationID string) error {
	return s.in.QueueBind(s.requests, StationKey(stationID), "datatransfer.stations", false, nil)
}

func (s *session) unbind(stationID string) error {
	return s.in.QueueUnbind(s.requests, StationKey(stationID), "datatransfer.stations", nil)
}

func (s *session) publish(exchange, key string, mandatory bool, message amqp.Publishing) <-chan Outcome {
	s.mu.Lock()
	out := s.out
	s.mu.Unlock()
	return out.publish(exchange, key, mandatory, message)
}

// renew opens another channel to publish on. What the old one has not confirmed is Lost, and is published again.
func (s *session) renew(old *publisher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out != old || s.connection.IsClosed() {
		return
	}
	out, err := newPublisher(s)
	if err != nil {
		s.connection.Close() // the next one may be better
		return
	}
	s.out = out
	old.channel.Close()
}

// publisher is a channel with confirms.
type publisher struct {
	session *session
	channel *amqp.Channel

	publishing sync.Mutex // makes number and message one step

	mu      sync.Mutex
	closed  bool
	pending map[uint64]pending // by the number that the broker confirms
}

type pending struct {
	correlationID string
	outcome       chan Outcome
}

func newPublisher(s *session) (*publisher, error) {
	channel, err := s.connection.Channel()
	if err != nil {
		return nil, err
	}
	if err := channel.Confirm(false); err != nil {
		return nil, err
	}
	p := &publisher{session: s, channel: channel, pending: map[uint64]pending{}}
	go p.watch(channel.NotifyReturn(make(chan amqp.Return)), channel.NotifyPublish(make(chan amqp.Confirmation)))
	return p, nil
}

// publish tells what the broker does with the message, once it is known.
func (p *publisher) publish(exchange, key string, mandatory bool, message amqp.Publishing) <-chan Outcome {
	outcome := make(chan Outcome, 1)
	p.publishing.Lock()
	defer p.publishing.Unlock()
	number := p.channel.GetNextPublishSeqNo()
	p.mu.Lock()
	p.pending[number] = pending{message.CorrelationId, outcome}
	closed := p.closed
	p.mu.Unlock()
	if closed || p.channel.PublishWithContext(context.Background(), exchange, key, mandatory, false, message) != nil {
		p.settle(number, Lost)
	}
	return outcome
}

// watch waits for what the broker says. A message that is returned is confirmed as well, just after that; as the
// channels have no buffers, both come here in this order.
func (p *publisher) watch(returns <-chan amqp.Return, confirms <-chan amqp.Confirmation) {
	returned := map[string]bool{}
	for {
		select {
		case message, open := <-returns:
			if open {
				returned[message.CorrelationId] = true
			} else {
				returns = nil
			}
		case confirm, open := <-confirms:
			if !open {
				p.close()
				return
			}
			p.mu.Lock()
			id := p.pending[confirm.DeliveryTag].correlationID
			p.mu.Unlock()
			outcome := Confirmed
			if !confirm.Ack {
				outcome = Refused
				go p.session.renew(p) // the contract: again, on another channel
			} else if returned[id] {
				outcome = Returned
			}
			delete(returned, id)
			p.settle(confirm.DeliveryTag, outcome)
		}
	}
}

func (p *publisher) settle(number uint64, outcome Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if message, known := p.pending[number]; known {
		delete(p.pending, number)
		message.outcome <- outcome
	}
}

// close tells everybody who waits that nobody knows.
func (p *publisher) close() {
	p.mu.Lock()
	p.closed = true
	for _, message := range p.pending {
		message.outcome <- Lost
	}
	p.pending = map[uint64]pending{}
	p.mu.Unlock()
	p.session.renew(p)
}
