// A station gateway for the DataTransfer Bridge (docs/gateways.md). It knows no OCPP action but DataTransfer.
//   AMQP_URL=amqp://user:password@broker PORT=9000 node gateway.js      stations connect to ws://HOST:PORT/STATION_ID
import { createHash, randomUUID } from 'node:crypto'
import { unescape } from 'node:querystring'
import amqp from 'amqplib'
import { WebSocket, WebSocketServer } from 'ws'
const { AMQP_URL = 'amqp://localhost/', PORT = '9000', PREFIX = 'datatransfer' } = process.env
const TIMEOUT = Number(process.env.TIMEOUT ?? 30) * 1000 // milliseconds to wait for an answer, in either direction
const ALLOWED = /^(amq\.gen-|amq\.rabbitmq\.reply-to\.|datatransfer\.replies\.)/ // reply queues that may be answered
const stations = new Map() // station id → { id, socket, version, calls, turn, gone, leave }
const asked = new Map() // correlation id → { publish, answer }: unanswered requests from stations
const recent = new Map() // station, message id and payload → answer: the station gets a repeated request once
let broker // { connection, channel, outlet, replies, requests }: two channels, one to publish, and two queues
function stationKey(id) {
  const bytes = Buffer.from(id).toString('latin1') // one character for each byte of UTF-8
  const key = bytes.replace(/[^A-Za-z0-9.-]/g, byte => `_${byte.charCodeAt(0).toString(16).padStart(2, '0')}`)
  return key.length <= 200 ? key : `${key.slice(0, 100)}_x${createHash('sha256').update(key).digest('hex')}`
}

async function connect() { // again after each loss: the queues and bindings go with their connection
  const connection = await amqp.connect(AMQP_URL)
  connection.on('error', console.error).on('close', () => { broker = undefined; connectSoon() })
  const channel = await connection.createChannel()
  await channel.assertExchange(`${PREFIX}.unrouted`, 'fanout')
  await channel.assertExchange(PREFIX, 'direct', { alternateExchange: `${PREFIX}.unrouted` })
  await channel.assertExchange(`${PREFIX}.stations`, 'direct')
  const replies = (await channel.assertQueue('', { exclusive: true })).queue
  const requests = (await channel.assertQueue('', { exclusive: true })).queue
  await channel.consume(replies, ({ properties, content }) => // a reply that nobody waits for is dropped
    asked.get(properties.correlationId)?.answer([properties.type, `${content}`]), { noAck: true })
  await channel.prefetch(200)
  await channel.consume(requests, message => onRequest(message, channel))
  broker = { connection, channel, outlet: await openOutlet(connection), replies, requests }
  await Promise.all([...stations.keys()].map(id => change('bindQueue', id)))
  for (const { publish } of asked.values()) publish() // again, with the same message id
  console.log(`connected to the broker with ${stations.size} stations`)
}
async function openOutlet(connection) { // with confirms: the broker says what it does not take
  const outlet = await connection.createConfirmChannel()
  return outlet.on('return', ({ properties }) => // no worker has declared its queues yet: it may be starting, so try again
    setTimeout(() => asked.get(properties.correlationId)?.publish(), 1000))
}
async function refused(correlationId, mine) { // again on another channel: a queue without leader refuses all of this one's
  if (!broker || !asked.has(correlationId)) return // the next connection publishes it
  if (broker.outlet === mine) broker.outlet = await openOutlet(broker.connection)
  setTimeout(() => asked.get(correlationId)?.publish(), 1000)
}
const connectSoon = () => setTimeout(() => connect().catch(failed), Math.random() * 1000)
const failed = error => { console.error(error.message); connectSoon() }
const change = (how, id) => broker?.channel[how](broker.requests, `${PREFIX}.stations`, stationKey(id)).catch(() => {})

// Station → CSMS. Here and below, an answer is [AMQP type, body].
const callError = (errorCode, errorDescription = '') =>
  ['CallError', JSON.stringify({ errorCode, errorDescription, errorDetails: {} })]
function ask(station, messageId, payload) {
  const correlationId = randomUUID(), deadline = Date.now() + TIMEOUT, { vendorId } = Object(JSON.parse(payload))
  const key = typeof vendorId === 'string' ? stationKey(vendorId.replace(/[A-Z]/g, letter => letter.toLowerCase())) : ''
  const headers = { ...station.own, 'ocpp-version': station.version, 'ocpp-deadline': deadline }
  const publish = (outlet = broker?.outlet) => outlet?.publish(PREFIX, key, Buffer.from(payload), {
    mandatory: true, persistent: true, type: 'DataTransfer', contentType: 'application/json', headers,
    messageId, correlationId, replyTo: broker.replies, expiration: Math.max(0, deadline - Date.now()),
    timestamp: Math.floor(Date.now() / 1000)
  }, error => error && refused(correlationId, outlet).catch(() => {}))
  return new Promise(answer => {
    asked.set(correlationId, { publish, answer })
    setTimeout(answer, TIMEOUT, callError('GenericError', 'The CSMS did not answer in time.'))
    publish()
  }).finally(() => asked.delete(correlationId))
}

// CSMS → station, one CALL at a time.
async function onRequest(message, channel) {
  const { replyTo, correlationId, messageId, headers = {}, expiration } = message.properties
  const id = headers['ocpp-station-id'], payload = `${message.content}`, station = stations.get(id)
  const deadline = headers['ocpp-deadline'] ?? Date.now() + Number(expiration ?? TIMEOUT)
  const name = JSON.stringify([id, messageId ?? correlationId, payload])
  if (station && !recent.has(name)) {
    const answer = station.turn.then(() => call(station, payload, deadline))
    recent.set(name, station.turn = answer.catch(() => callError('FormatViolation', 'no DataTransferRequest')))
    station.turn.then(([type]) => setTimeout(() => recent.delete(name), type === 'DataTransferResponse' ? 600_000 : 0))
  }
  const [type, body] = await (recent.get(name) ?? ['StationOffline', '{"sent":false}'])
  if (broker?.channel === channel) channel.ack(message) // else the message has gone with its queue
  if (type !== 'late' && ALLOWED.test(replyTo)) broker?.outlet.publish('', replyTo, Buffer.from(body), {
    type, contentType: 'application/json', correlationId, expiration: Math.max(0, deadline - Date.now()),
    headers: { 'ocpp-station-id': id, ...(station && { 'ocpp-version': station.version }) }
  })
}
async function call({ socket, version, calls, gone }, payload, deadline) {
  if (socket.readyState !== WebSocket.OPEN) return gone
  const id = randomUUID(), { vendorId, messageId, data } = JSON.parse(payload)
  const text = typeof data === 'string' ? data : JSON.stringify(data ?? undefined) // it rounds integers above 2^53
  if (version === 'ocpp1.6') payload = JSON.stringify({ vendorId, messageId: messageId ?? undefined, data: text })
  return new Promise(answer => {
    calls.set(id, answer)
    setTimeout(answer, deadline - Date.now(), ['late'])
    if (Date.now() < deadline) socket.send(`[2,"${id}","DataTransfer",${payload}]`)
  }).finally(() => calls.delete(id))
}

const PAYLOAD = /^\s*\[\s*\d\s*,\s*"(?:[^"\\]|\\.)*"\s*,\s*(?:"DataTransfer"\s*,)?([^]*)\]\s*$/ // as text, untouched
async function onFrame(station, frame, { calls, socket } = station) {
  const [type, id, action, text] = JSON.parse(frame), payload = PAYLOAD.exec(frame)[1]
  if (type !== 2) return calls.get(id)?.(type === 3 ? ['DataTransferResponse', payload] : callError(action, text))
  const [kind, body] = await (action === 'DataTransfer' ? ask(station, id, payload) : callError('NotImplemented'))
  const { errorCode, errorDescription, errorDetails } = JSON.parse(body)
  socket.send(kind === 'CallError' ? JSON.stringify([4, id, errorCode, errorDescription, errorDetails])
    : `[3,${JSON.stringify(id)},${body}]`)
}
new WebSocketServer({ port: PORT, maxPayload: 1 << 22, handleProtocols: offered => // the newest that both speak
  ['ocpp2.1', 'ocpp2.0.1', 'ocpp1.6'].find(version => offered.has(version)) ?? false
}).on('connection', (socket, { url }) => {
  const id = unescape(url.slice(1)), own = { 'ocpp-station-id': id, 'ocpp-connection-id': randomUUID() }
  const station = { id, own, socket, version: socket.protocol, calls: new Map(), turn: Promise.resolve() }
  station.gone = new Promise(leave => { station.leave = leave })
  stations.get(id)?.socket.terminate()
  stations.set(id, station)
  change('bindQueue', id)
  const malformed = () => socket.send('[4,"-1","FormatViolation","no OCPP-J frame",{}]')
  socket.on('message', data => onFrame(station, `${data}`).catch(malformed)).on('error', () => {})
  socket.on('close', async () => { // unbind first: a CSMS told that the station is offline may retry at once
    if (stations.get(id) === station) await change('unbindQueue', id)
    if (stations.get(id) === station) stations.delete(id)
    for (const answer of station.calls.values()) answer(['StationOffline', '{"sent":true}'])
    station.leave(['StationOffline', '{"sent":false}'])
  })
})
connectSoon()
