// A station gateway in Go: charging stations speak OCPP-J to it, and it speaks docs/contract.md to RabbitMQ.
//
// It shows everything that docs/gateways.md asks for, in both directions, with nothing but that page, amqp091-go and
// gorilla/websocket: requests of stations with publisher confirms, mandatory, on a private reply queue; requests of
// the CSMS, one at a time for each station; and what becomes of both when a connection is lost.
//
// bridge.go is the RabbitMQ side, station.go the OCPP-J side, and keys.go makes routing keys.
// With Debian's packages golang, golang-github-rabbitmq-amqp091-go-dev and golang-github-gorilla-websocket-dev:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o gateway .
//	AMQP_URL=amqp://user:password@broker-1,amqp://user:password@broker-2 PORT=9000 TIMEOUT=30 ./gateway
//
// Elsewhere, `go mod init gateway && go mod tidy` fetches them. Stations connect to ws://HOST:PORT/STATION_ID; there
// are no passwords and no TLS. `make examples` tests it.
package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

func main() {
	seconds, err := strconv.ParseFloat(setting("TIMEOUT", "30"), 64)
	if err != nil {
		log.Fatalf("TIMEOUT: %v", err)
	}
	timeout := time.Duration(seconds * float64(time.Second))
	bridge := NewBridge(strings.Split(setting("AMQP_URL", "amqp://guest:guest@localhost/"), ","), timeout)
	go bridge.Run()

	server := &http.Server{
		Addr:              net.JoinHostPort(setting("HOST", "127.0.0.1"), setting("PORT", "9000")),
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { accept(bridge, w, r) }),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	drain, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server.Shutdown(drain) // takes no new stations; those that are here are not its own any more
	bridge.Stop(drain)
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

var upgrader = websocket.Upgrader{Subprotocols: []string{"ocpp2.1", "ocpp2.0.1", "ocpp2.0", "ocpp1.6"}}

func accept(bridge *Bridge, w http.ResponseWriter, r *http.Request) {
	id, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/"))
	if err != nil || id == "" || len([]rune(id)) > 255 {
		http.Error(w, "the path is the station's id", http.StatusNotFound)
		return
	}
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	if socket.Subprotocol() == "" {
		socket.Close() // OCPP-J: no version in common
		return
	}
	serve(bridge, socket, id, socket.Subprotocol())
}
