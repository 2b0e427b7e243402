package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"regexp"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

const (
	inLine    = 19               // requests that wait, in either direction, beside the one that is under way
	frameSize = 1 << 20          // bytes of a message of a station
	silence   = 90 * time.Second // without a pong: the socket is dead
)

// Station is a charging station's connection. Payloads go through it as they are, byte for byte.
type Station struct {
	id, version, connectionID string
	bridge                    *Bridge
	socket                    *websocket.Conn
	writing                   sync.Mutex

	requests chan request  // of the station, for the CSMS
	calls    chan *Call    // of the CSMS, for the station
	lost     chan struct{} // closed when its socket is
	unbound  chan struct{} // closed when no more calls come

	mu     sync.Mutex
	inHand map[string]string // payloads of the station's requests, by message id
	asked  string            // message id of the CALL that the station has
	answer chan Reply        // to that
}

type request struct {
	messageID string
	payload   []byte
	deadline  time.Time
}

// serve has a station's connection, to its end.
func serve(bridge *Bridge, socket *websocket.Conn, id, version string) {
	s := &Station{
		id: id, version: version, connectionID: newID(), bridge: bridge, socket: socket,
		requests: make(chan request, inLine), calls: make(chan *Call, inLine),
		lost: make(chan struct{}), unbound: make(chan struct{}),
		inHand: map[string]string{},
	}
	go s.forward()
	go s.call()
	go s.ping()
	bridge.Connect(s)
	s.read()
	socket.Close()
	close(s.lost)
	bridge.Disconnect(s)
	close(s.unbound)
}

// Close ends the connection: 1001, going away.
func (s *Station) Close(reason string) {
	message := websocket.FormatCloseMessage(websocket.CloseGoingAway, reason)
	s.socket.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Second))
	s.socket.Close()
}

func (s *Station) ping() {
	for {
		select {
		case <-time.After(silence / 3):
			s.socket.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
		case <-s.lost:
			return
		}
	}
}

func (s *Station) read() {
	s.socket.SetReadLimit(frameSize)
	alive := func(string) error { return s.socket.SetReadDeadline(time.Now().Add(silence)) }
	alive("")
	s.socket.SetPongHandler(alive)
	for {
		kind, frame, err := s.socket.ReadMessage()
		if err != nil {
			return
		}
		alive("")
		if kind == websocket.TextMessage {
			s.onFrame(frame)
		}
	}
}

func (s *Station) write(format string, arguments ...any) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.socket.SetWriteDeadline(time.Now().Add(10 * time.Second))
	return s.socket.WriteMessage(websocket.TextMessage, []byte(fmt.Sprintf(format, arguments...)))
}

func (s *Station) writeError(messageID, code, description string) {
	s.write(`[4,%s,"%s","%s",{}]`, quoted(messageID), code, description)
}

// code is that of an error that 1.6 knows by one name only.
func (s *Station) code(since2 string) string {
	if s.version == "ocpp1.6" {
		return "FormationViolation"
	}
	return since2
}

func (s *Station) noMessage() string { return s.code("RpcFrameworkError") }

func (s *Station) unreadable() Reply {
	return callError(s.code("FormatViolation"), "The station's answer cannot be read.")
}

// beginning finds kind and message id of an answer that cannot be read as a whole.
var beginning = regexp.MustCompile(`^\s*\[\s*[34]\s*,\s*"([^"\\]*)"`)

func (s *Station) onFrame(frame []byte) {
	var parts []json.RawMessage // as they came, byte for byte
	var kind int
	var messageID string
	if !utf8.Valid(frame) || json.Unmarshal(frame, &parts) != nil || len(parts) < 3 ||
		json.Unmarshal(parts[0], &kind) != nil || !isString(parts[1]) || json.Unmarshal(parts[1], &messageID) != nil {
		if found := beginning.FindSubmatch(frame); found != nil {
			s.onAnswer(string(found[1]), s.unreadable())
		} else {
			s.writeError("-1", s.noMessage(), "")
		}
		return
	}
	switch {
	case kind == 2 && len(parts) == 4:
		s.onCall(messageID, parts[2], parts[3])
	case kind == 3 && len(parts) == 3:
		s.onAnswer(messageID, Reply{Type: "DataTransferResponse", Body: parts[2]})
	case kind == 4 && len(parts) == 5 && isString(parts[2]) && isString(parts[3]):
		if parts[4][0] != '{' {
			parts[4] = []byte("{}")
		}
		body := fmt.Sprintf(`{"errorCode":%s,"errorDescription":%s,"errorDetails":%s}`, parts[2], parts[3], parts[4])
		s.onAnswer(messageID, Reply{Type: "CallError", Body: []byte(body)})
	case kind == 3 || kind == 4:
		s.onAnswer(messageID, s.unreadable())
	default:
		s.writeError("-1", s.noMessage(), "")
	}
}

// ---- station → CSMS ----

func (s *Station) onCall(messageID string, action, payload json.RawMessage) {
	if string(action) != `"DataTransfer"` {
		s.writeError(messageID, "NotImplemented", "") // where your gateway does the rest of OCPP
		return
	}
	if len([]rune(messageID)) > 36 {
		s.writeError(messageID, s.noMessage(), "The message id has more than 36 characters.")
		return
	}
	s.mu.Lock()
	before, again := s.inHand[messageID]
	s.inHand[messageID] = string(payload)
	s.mu.Unlock()
	if again && before == string(payload) {
		return // one answer serves both
	}
	select {
	case s.requests <- request{messageID, payload, time.Now().Add(s.bridge.timeout)}:
	default:
		s.done(messageID)
		s.writeError(messageID, "GenericError", "Too many requests wait.")
	}
}

// forward asks the CSMS, one request at a time.
func (s *Station) forward() {
	for {
		select {
		case request := <-s.requests:
			s.bridge.inHand.Add(1)
			s.ask(request)
			s.bridge.inHand.Done()
		case <-s.lost:
			return
		}
	}
}

func (s *Station) ask(request request) {
	ctx, cancel := context.WithDeadline(context.Background(), request.deadline)
	defer cancel()
	go func() { // nobody waits when the station is gone
		select {
		case <-s.lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	reply, err := s.bridge.Ask(ctx, Request{
		StationID: s.id, Version: s.version, ConnectionID: s.connectionID, MessageID: request.messageID,
		VendorID: vendorOf(request.payload), Payload: request.payload,
	})
	s.done(request.messageID)
	var told struct {
		ErrorCode, ErrorDescription, ErrorDetails json.RawMessage
	}
	switch {
	case err != nil:
		log.Printf("%s: no answer: %v", s.id, err)
		s.writeError(request.messageID, "GenericError", "The CSMS did not answer.")
	case reply.Type == "DataTransferResponse":
		s.write("[3,%s,%s]", quoted(request.messageID), reply.Body)
	case reply.Type == "CallError" && json.Unmarshal(reply.Body, &told) == nil:
		s.write("[4,%s,%s,%s,%s]", quoted(request.messageID), told.ErrorCode, told.ErrorDescription, told.ErrorDetails)
	default:
		s.writeError(request.messageID, "InternalError", "")
	}
}

func (s *Station) done(messageID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inHand, messageID)
}

// vendorOf returns the vendorId, or "" if there is none that makes a key: the bridge answers what is broken.
func vendorOf(payload []byte) (vendorID string) {
	var fields map[string]json.RawMessage // a struct would take the name in any case
	if json.Unmarshal(payload, &fields) != nil || json.Unmarshal(fields["vendorId"], &vendorID) != nil ||
		utf8.RuneCountInString(vendorID) > 255 {
		return ""
	}
	return vendorID
}

// ---- CSMS → station ----

// Take gives the call a place in the station's line, and returns false if there is none.
func (s *Station) Take(call *Call) bool {
	select {
	case s.calls <- call:
		return true
	default:
		return false
	}
}

// call has the station answer, one call at a time; when it is lost, each of them is told so, but not before nobody can
// find it here any more.
func (s *Station) call() {
	for {
		select {
		case <-s.lost:
			<-s.unbound
			for {
				select {
				case call := <-s.calls:
					call.finish(s.offline(false), false)
				default:
					return
				}
			}
		case call := <-s.calls:
			reply, answered := s.send(call)
			reply.Version = s.version
			call.finish(reply, answered)
		}
	}
}

func (s *Station) offline(sent bool) Reply {
	return Reply{Type: "StationOffline", Body: []byte(fmt.Sprintf(`{"sent":%t}`, sent)), Version: s.version}
}

func (s *Station) send(call *Call) (reply Reply, answered bool) {
	if !time.Now().Before(call.deadline) {
		return Reply{}, false // nobody waits any more
	}
	payload, ok := payloadFor(s.version, call.payload)
	if !ok {
		return callError(s.code("FormatViolation"), "The request cannot be read."), false
	}
	messageID, answer := newID(), make(chan Reply, 1)
	s.mu.Lock()
	s.asked, s.answer = messageID, answer
	s.mu.Unlock()
	s.write(`[2,"%s","DataTransfer",%s]`, messageID, payload) // if it fails, the socket is lost
	select {
	case reply = <-answer:
		return reply, true
	case <-time.After(time.Until(call.deadline)):
		return Reply{}, false // a late answer is nobody's
	case <-s.lost:
		<-s.unbound
		return s.offline(true), false
	}
}

func (s *Station) onAnswer(messageID string, reply Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == messageID && s.answer != nil {
		s.answer <- reply
		s.answer = nil
	}
}

// payloadFor writes the payload in the station's version: 1.6 has three fields, and data is text.
func payloadFor(version string, payload []byte) ([]byte, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil || fields == nil {
		return nil, false
	}
	if version != "ocpp1.6" {
		return payload, true
	}
	if data := fields["data"]; data != nil && !isString(data) && string(data) != "null" {
		fields["data"] = []byte(quoted(string(data)))
	}
	for name, value := range fields {
		if string(value) == "null" || name != "vendorId" && name != "messageId" && name != "data" {
			delete(fields, name)
		}
	}
	written, err := json.Marshal(fields)
	return written, err == nil
}

// ---- JSON ----

func callError(code, description string) Reply {
	body := fmt.Sprintf(`{"errorCode":"%s","errorDescription":"%s","errorDetails":{}}`, code, description)
	return Reply{Type: "CallError", Body: []byte(body)}
}

func isString(value json.RawMessage) bool { return value[0] == '"' }

func quoted(text string) string {
	written, _ := json.Marshal(text)
	return string(written)
}

// newID returns a UUID.
func newID() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
