// A station gateway in Node.js: charging stations speak OCPP-J to it, and it speaks docs/contract.md to RabbitMQ.
//
// It shows everything that docs/gateways.md asks for, in both directions, with amqplib and ws: requests of stations
// with publisher confirms, mandatory, on a private reply queue; requests of the CSMS, one at a time for each station;
// and what becomes of both when a connection is lost.
//
// session.js and bridge.js are the RabbitMQ side, this file and station.js the OCPP-J side; keys.js makes routing keys.
//
//     npm ci
//     AMQP_URL=amqp://user:password@broker-1,amqp://user:password@broker-2 PORT=9000 TIMEOUT=30 node gateway.js
//
// Stations connect to ws://HOST:PORT/STATION_ID; there are no passwords and no TLS. `make test` tests it.
import { WebSocketServer } from 'ws'
import { Bridge } from './bridge.js'
import { Station } from './station.js'

const { AMQP_URL = 'amqp://localhost/', HOST = '127.0.0.1', PORT = '9000', TIMEOUT = '30' } = process.env
const VERSIONS = ['ocpp2.1', 'ocpp2.0.1', 'ocpp2.0', 'ocpp1.6'] // the newest that both speak
const PING = 30_000 // milliseconds; a station that has not answered the one before is gone

const bridge = new Bridge(AMQP_URL.split(','))
const running = bridge.run()
const server = new WebSocketServer({
  host: HOST,
  port: Number(PORT),
  maxPayload: 1 << 20,
  verifyClient: ({ req }) => stationId(req.url) !== '',
  handleProtocols: offered => VERSIONS.find(version => offered.has(version)) ?? false
})
server.on('connection', (socket, { url }) => {
  socket.on('error', () => {}) // it closes
  if (!VERSIONS.includes(socket.protocol)) return socket.close() // OCPP-J: no version in common
  new Station(bridge, socket, stationId(url), Number(TIMEOUT) * 1000)
  socket.isAlive = true
  socket.on('pong', () => { socket.isAlive = true })
})
setInterval(() => server.clients.forEach(socket => {
  if (!socket.isAlive) return socket.terminate()
  socket.isAlive = false
  socket.ping()
}), PING).unref()

/** The path is the station's id. */
function stationId (url) {
  try {
    const id = decodeURIComponent(url.slice(1))
    return [...id].length <= 255 ? id : ''
  } catch {
    return ''
  }
}

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, async () => {
    server.close() // takes no new stations
    await bridge.stop(10_000)
    await running
    process.exit()
  })
}
