package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"log"
	"math/rand"
	"strconv"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	remembered = 10 * time.Minute // how long an answer is kept for a request that comes again
	prefetch   = 200              // requests of the CSMS in hand
	refusals   = 4                // how often the broker may refuse a station's request before the station is told
)

var errRefused = errors.New("the broker refuses it")

// Reply is an answer, in either direction.
type Reply struct {
	Type    string // DataTransferResponse, CallError or StationOffline; none if there is no answer
	Body    []byte
	Version string // the station's
}

// Request is the DataTransfer of a station.
type Request struct {
	StationID, Version, ConnectionID, MessageID, VendorID string
	Payload                                               []byte
}

// Call is a request of the CSMS, on its way to its station and back.
type Call struct {
	payload  []byte
	deadline time.Time
	done     chan struct{}
	reply    Reply // once it is done
	answered bool  // the reply is what the station said, and stands for the same request when it comes again
}

func (c *Call) finish(reply Reply, answered bool) {
	c.reply, c.answered = reply, answered
	close(c.done)
}

// Bridge is the gateway's side of RabbitMQ. It lives as long as the gateway, whatever becomes of its sessions.
type Bridge struct {
	urls    []string
	timeout time.Duration
	inHand  sync.WaitGroup // requests of either side

	mu       sync.Mutex
	session  *session           // nil while there is none
	changed  chan struct{}      // closed when there is one
	waiting  map[string]waiter  // requests of stations, by correlation id
	calls    map[[32]byte]*Call // requests of the CSMS; a gateway with many stations bounds this
	stopping bool

	topology sync.Mutex // held while something is bound or unbound
	stations map[string]*Station
	bound    *session // in which all of them are bound
}

type waiter struct {
	stationID string
	reply     chan Reply
}

func NewBridge(urls []string, timeout time.Duration) *Bridge {
	return &Bridge{
		urls: urls, timeout: timeout, changed: make(chan struct{}),
		waiting: map[string]waiter{}, calls: map[[32]byte]*Call{}, stations: map[string]*Station{},
	}
}

// Run has one session after the other, each on the next host, after a pause with jitter.
func (b *Bridge) Run() {
	for number, failed := 0, 0; ; number++ {
		began := time.Now()
		err := b.live(b.urls[number%len(b.urls)])
		b.mu.Lock()
		stopping := b.stopping
		b.mu.Unlock()
		if stopping {
			return
		}
		if time.Since(began) > 10*time.Second {
			failed = 0
		}
		pause := time.Duration(rand.Int63n(int64(100 * time.Millisecond << failed)))
		log.Printf("no connection to RabbitMQ, next try in %v: %v", pause, err)
		time.Sleep(pause)
		if failed < 7 {
			failed++
		}
	}
}

// live is one session, to its end.
func (b *Bridge) live(url string) error {
	s, err := open(url)
	if err != nil {
		return err
	}
	defer s.connection.Close()
	replies, err := s.in.Consume(s.replies, "replies", true, true, false, false, nil) // without acks
	if err != nil {
		return err
	}
	requests, err := s.in.Consume(s.requests, "requests", false, true, false, false, nil)
	if err != nil {
		return err
	}
	go func() {
		for delivery := range replies {
			b.onReply(delivery)
		}
	}()
	b.inHand.Add(1)
	go func() {
		defer b.inHand.Done()
		for delivery := range requests {
			b.onRequest(delivery)
		}
	}()
	b.use(s) // what stations ask, and answers, can go out
	if err := b.bindAll(s); err != nil {
		s.connection.Close()
	} else {
		log.Print("connected to RabbitMQ")
	}
	<-s.gone
	b.use(nil)
	return errors.New("the connection is lost")
}

func (b *Bridge) use(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session = s
	if s == nil {
		b.changed = make(chan struct{})
	} else {
		close(b.changed)
	}
}

// await returns a session, or nil if there is none until the context ends.
func (b *Bridge) await(ctx context.Context) *session {
	for {
		b.mu.Lock()
		s, changed := b.session, b.changed
		b.mu.Unlock()
		if s != nil {
			return s
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// ---- stations come and go ----

func (b *Bridge) bindAll(s *session) error {
	b.topology.Lock()
	defer b.topology.Unlock()
	for id := range b.stations {
		if err := s.bind(id); err != nil {
			return err
		}
	}
	b.bound = s
	return nil
}

// Connect returns when the CSMS can reach the station, or will with the next session.
func (b *Bridge) Connect(station *Station) {
	b.topology.Lock()
	defer b.topology.Unlock()
	if before := b.stations[station.id]; before != nil {
		before.Close("the station has come back")
	}
	b.stations[station.id] = station
	if b.bound != nil {
		b.bound.bind(station.id) // if it fails, the session is at its end
	}
}

// Disconnect returns when nothing for the station comes any more: only then may a CSMS hear that it is offline, for it
// looks for the station again at once.
func (b *Bridge) Disconnect(station *Station) {
	b.topology.Lock()
	defer b.topology.Unlock()
	if b.stations[station.id] != station {
		return // it has come back on another socket
	}
	delete(b.stations, station.id)
	if b.bound != nil {
		b.bound.unbind(station.id)
	}
}

// Stop takes nothing new of the CSMS, waits for what is in hand, and closes sockets and connection.
func (b *Bridge) Stop(ctx context.Context) {
	b.mu.Lock()
	b.stopping = true
	b.mu.Unlock()
	b.topology.Lock()
	if b.bound != nil {
		b.bound.in.Cancel("requests", false) // its queue is deleted with it, and the CSMS gets returns
		b.bound = nil
	}
	b.topology.Unlock()
	done := make(chan struct{})
	go func() { b.inHand.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	b.topology.Lock()
	for _, station := range b.stations {
		station.Close("the gateway stops")
	}
	b.topology.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.session != nil {
		b.session.connection.Close()
	}
}

// ---- station → CSMS ----

// Ask publishes the request and waits for its reply, until the context's deadline.
func (b *Bridge) Ask(ctx context.Context, request Request) (Reply, error) {
	deadline, _ := ctx.Deadline()
	correlationID := newID()
	replies := make(chan Reply, 1)
	b.mu.Lock()
	b.waiting[correlationID] = waiter{request.StationID, replies}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.waiting, correlationID)
	}()

	for refused := 0; ctx.Err() == nil; {
		s := b.await(ctx)
		if s == nil {
			break
		}
		// Published again, it is the same request: only reply_to is another one after a reconnect.
		published := s.publish("datatransfer", VendorKey(request.VendorID), true, amqp.Publishing{
			ContentType: "application/json", Type: "DataTransfer", DeliveryMode: amqp.Persistent,
			CorrelationId: correlationID, MessageId: request.MessageID, ReplyTo: s.replies,
			Expiration: milliseconds(deadline), Timestamp: time.Now(),
			Headers: amqp.Table{
				"ocpp-station-id": request.StationID, "ocpp-connection-id": request.ConnectionID,
				"ocpp-version": request.Version, "ocpp-deadline": deadline.UnixMilli(),
			},
			Body: request.Payload,
		})
		outcome := Confirmed
		select {
		case outcome = <-published:
		case reply := <-replies: // it may be faster than the confirm
			return reply, nil
		case <-ctx.Done():
			return Reply{}, ctx.Err()
		}
		var again <-chan time.Time // nil, which never comes, if it lies in a queue
		switch outcome {
		case Refused:
			if refused++; refused == refusals {
				return Reply{}, errRefused
			}
			again = time.After(time.Second)
		case Returned: // no worker has ever run: one may be starting just now
			again = time.After(time.Second)
		case Lost:
			again = time.After(100 * time.Millisecond)
		}
		select {
		case reply := <-replies:
			return reply, nil
		case <-again:
		case <-s.gone: // and with it the reply queue
		case <-ctx.Done():
		}
	}
	return Reply{}, ctx.Err()
}

func (b *Bridge) onReply(d amqp.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiter, known := b.waiting[d.CorrelationId]
	if !known || d.Headers["ocpp-station-id"] != waiter.stationID {
		return // late, or not this station's
	}
	delete(b.waiting, d.CorrelationId)
	waiter.reply <- Reply{Type: d.Type, Body: d.Body}
}

// ---- CSMS → station ----

// onRequest is called in the order of the queue, and gives each request its place in its station's line.
func (b *Bridge) onRequest(d amqp.Delivery) {
	stationID, _ := d.Headers["ocpp-station-id"].(string)
	deadline := time.Now().Add(b.timeout)
	if at, ok := d.Headers["ocpp-deadline"].(int64); ok {
		deadline = time.UnixMilli(at)
	} else if left, err := strconv.ParseInt(d.Expiration, 10, 64); err == nil {
		deadline = time.Now().Add(time.Duration(left) * time.Millisecond)
	}
	// The same id, station and payload within ten minutes is the same request: it goes to the station once.
	id := sha256.Sum256([]byte(d.MessageId + "\x00" + stationID + "\x00" + string(d.Body)))
	b.mu.Lock()
	call, again := b.calls[id]
	if !again || d.MessageId == "" {
		again = false
		call = &Call{payload: d.Body, deadline: deadline, done: make(chan struct{})}
		b.calls[id] = call
	}
	b.mu.Unlock()
	if !again {
		b.give(stationID, call)
		go b.remember(id, call)
	}
	b.inHand.Add(1)
	go func() {
		defer b.inHand.Done()
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		select {
		case <-call.done:
			b.respond(ctx, d, stationID, call.reply)
		case <-ctx.Done():
		}
		d.Ack(false) // only now is there room for another one
	}()
}

func (b *Bridge) give(stationID string, call *Call) {
	b.topology.Lock() // a station that is just being unbound is offline only after that
	defer b.topology.Unlock()
	station := b.stations[stationID]
	switch {
	case stationID == "":
		call.finish(callError("ProtocolError", "ocpp-station-id is missing"), false)
	case station == nil:
		call.finish(Reply{Type: "StationOffline", Body: []byte(`{"sent":false}`)}, false)
	case !station.Take(call):
		call.finish(callError("GenericError", "Too many requests wait for this station."), false)
	}
}

// remember keeps what the station answered for ten minutes, and nothing else: asked again, it may be there.
func (b *Bridge) remember(id [32]byte, call *Call) {
	<-call.done
	forget := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.calls[id] == call {
			delete(b.calls, id)
		}
	}
	if call.answered {
		time.AfterFunc(remembered, forget)
	} else {
		forget()
	}
}

// respond publishes the reply until it is confirmed, in the next session if need be.
func (b *Bridge) respond(ctx context.Context, d amqp.Delivery, stationID string, reply Reply) {
	if reply.Type == "" || d.CorrelationId == "" || !mayReplyTo(d.ReplyTo) {
		return
	}
	deadline, _ := ctx.Deadline()
	headers := amqp.Table{"ocpp-station-id": stationID}
	for _, trace := range []string{"traceparent", "tracestate"} {
		if value, ok := d.Headers[trace].(string); ok {
			headers[trace] = value
		}
	}
	if reply.Version != "" {
		headers["ocpp-version"] = reply.Version
	}
	for ctx.Err() == nil {
		s := b.await(ctx)
		if s == nil {
			return
		}
		outcome := <-s.publish("", d.ReplyTo, false, amqp.Publishing{
			ContentType: "application/json", Type: reply.Type, DeliveryMode: amqp.Persistent,
			CorrelationId: d.CorrelationId, Expiration: milliseconds(deadline), Headers: headers, Body: reply.Body,
		})
		if outcome == Confirmed {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// mayReplyTo knows the queues that nobody else's can be mistaken for.
func mayReplyTo(queue string) bool {
	for _, prefix := range []string{"amq.rabbitmq.reply-to", "amq.gen-", "datatransfer.replies."} {
		if strings.HasPrefix(queue, prefix) {
			return true
		}
	}
	return false
}

func milliseconds(deadline time.Time) string {
	left := time.Until(deadline).Milliseconds()
	if left < 1 {
		left = 1
	}
	return strconv.FormatInt(left, 10)
}
