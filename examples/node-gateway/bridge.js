// The gateway's side of RabbitMQ. It lives as long as the gateway, whatever becomes of its sessions.
import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { vendorKey } from './keys.js'
import { NONE, callError, offline } from './reply.js'
import { Session } from './session.js'

const LONGEST = 300_000 // milliseconds that a request is in hand, whatever its deadline
const REMEMBERED = 600_000 // milliseconds that an answer is kept for a request that comes again
const REFUSALS = 4 // how often the broker may refuse a station's request before the station is told
const MAY_BE_ANSWERED = /^(amq\.gen-|amq\.rabbitmq\.reply-to|datatransfer\.replies\.)/ // nobody else's queues
const { min, max, random } = Math

export class Bridge {
  #urls
  #session // undefined while there is none
  #stopping = false
  #stations = new Map() // by id: those that are bound, or will be in the next session
  #unbinding = new Map() // by station id: promises of the broker's UnbindOk
  #asked = new Map() // requests of stations, by correlation id
  #answers = new Set() // answers to the CSMS that are not confirmed
  #calls = new Map() // promises of answers to the CSMS, by request; a gateway with many stations bounds this

  constructor (urls) {
    this.#urls = urls
  }

  /** Has one session after the other, each on the next host, after a pause with jitter. */
  async run () {
    for (let number = 0, failed = 0; !this.#stopping; number++) {
      const began = Date.now()
      const reason = await this.#live(this.#urls[number % this.#urls.length]).catch(error => error)
      if (this.#stopping) return
      failed = Date.now() - began > 10_000 ? 0 : min(failed + 1, 7)
      const pause = random() * 100 * 2 ** failed
      console.error(`no connection to RabbitMQ, next try in ${pause.toFixed()} ms: ${reason?.message ?? 'closed'}`)
      await sleep(pause)
    }
  }

  /** One session, to its end. Its queues and bindings end with it, so that everything is made and published again. */
  async #live (url) {
    let onEnd
    const ended = new Promise(resolve => { onEnd = resolve })
    const session = await Session.open(url, { onEnd, onReturn: message => this.#onReturn(message) })
    try {
      this.#session = session
      await session.consume(reply => this.#onReply(reply), request => this.#onRequest(request, session))
      for (const asked of this.#asked.values()) asked.publish()
      for (const answer of this.#answers) answer.publish()
      await Promise.all([...this.#stations.keys()].map(id => session.bind(id)))
      console.error('connected to RabbitMQ')
      return await ended
    } finally {
      this.#session = undefined
      await session.close()
    }
  }

  // ---- stations come and go ----

  /** Resolves when the CSMS can reach the station, or will with the next session. */
  async connect (station) {
    this.#stations.get(station.id)?.close('the station has come back')
    this.#stations.set(station.id, station)
    await this.#unbinding.get(station.id)
    await this.#session?.bind(station.id).catch(() => {})
  }

  /**
   * Resolves when nothing for the station comes any more: only then may a CSMS hear that it is offline, for it looks
   * for the station again at once.
   */
  async disconnect (station) {
    if (this.#stations.get(station.id) !== station) return // it has come back on another socket
    this.#stations.delete(station.id)
    const unbound = Promise.resolve(this.#session?.unbind(station.id)).catch(() => {})
    this.#unbinding.set(station.id, unbound)
    await unbound
    if (this.#unbinding.get(station.id) === unbound) this.#unbinding.delete(station.id)
  }

  /** Takes nothing new of the CSMS, waits for what is in hand, and closes sockets and connection. */
  async stop (drain) {
    this.#stopping = true
    const until = Date.now() + drain
    await this.#session?.cancel().catch(() => {}) // its queue is deleted, and the CSMS gets returns
    while ((this.#asked.size || this.#answers.size) && Date.now() < until) await sleep(20)
    for (const station of this.#stations.values()) station.close('the gateway stops')
    await this.#session?.close()
  }

  // ---- station → CSMS ----

  /** Publishes the request of a station, and resolves to its reply. */
  ask ({ station, messageId, vendorId, payload, deadline }) {
    return new Promise(resolve => {
      const correlationId = randomUUID()
      let refused = 0
      let again
      const end = reply => {
        clearTimeout(again)
        clearTimeout(timer)
        this.#asked.delete(correlationId)
        station.lost.removeEventListener('abort', leave)
        resolve(reply)
      }
      const leave = () => end(NONE)
      const unanswered = callError('GenericError', 'The CSMS did not answer.')
      const timer = setTimeout(end, deadline - Date.now(), unanswered)
      station.lost.addEventListener('abort', leave)
      const publish = () => {
        clearTimeout(again)
        // Published again, it is the same request: only replyTo is another one after a reconnect.
        this.#session?.publish('datatransfer', vendorKey(vendorId), payload, {
          mandatory: true,
          type: 'DataTransfer',
          correlationId,
          messageId,
          replyTo: this.#session.replies,
          expiration: max(1, deadline - Date.now()),
          timestamp: Math.floor(Date.now() / 1000),
          headers: {
            'ocpp-station-id': station.id,
            'ocpp-connection-id': station.connectionId,
            'ocpp-version': station.version,
            'ocpp-deadline': deadline
          }
        }, () => {}, () => ++refused === REFUSALS ? end(unanswered) : publishSoon())
      }
      const publishSoon = () => {
        clearTimeout(again)
        if (this.#asked.has(correlationId)) again = setTimeout(publish, 1000)
      }
      this.#asked.set(correlationId, { stationId: station.id, end, publish, publishSoon })
      publish()
    })
  }

  /** No worker has ever run for this vendor: one may be starting just now. */
  #onReturn ({ properties }) {
    this.#asked.get(properties.correlationId)?.publishSoon()
  }

  #onReply ({ properties: { correlationId, type, headers }, content }) {
    const asked = this.#asked.get(correlationId)
    if (asked?.stationId === headers?.['ocpp-station-id']) asked.end({ type, body: `${content}` })
  } // else it is late, or not this station's

  // ---- CSMS → station ----

  /** Called in the order of the queue: gives each request its place in its station's line. */
  async #onRequest (message, session) {
    if (message === null) return // the queue was deleted
    const { messageId, headers = {}, expiration } = message.properties
    const stationId = headers['ocpp-station-id'] ?? ''
    const payload = `${message.content}`
    const given = headers['ocpp-deadline'] ?? Date.now() + Number(expiration ?? 30_000)
    const deadline = min(given, Date.now() + LONGEST)
    // The same id, station and payload within ten minutes is the same request: it goes to the station once.
    const name = createHash('sha256').update([messageId ?? randomUUID(), stationId, payload].join('\0')).digest('hex')
    let reply = this.#calls.get(name)
    if (!reply) {
      reply = this.#give(stationId, payload, deadline)
      this.#calls.set(name, reply)
      // What a station answered stands. Anything else does not: asked again, it may be there.
      reply.then(({ ofStation }) => {
        if (ofStation) setTimeout(() => this.#calls.delete(name), REMEMBERED).unref()
        else this.#calls.delete(name)
      })
    }
    this.#answer(message.properties, stationId, deadline, await reply)
    session.ack(message) // only now is there room for another one
  }

  async #give (stationId, payload, deadline) {
    if (stationId === '') return callError('ProtocolError', 'ocpp-station-id is missing')
    const station = this.#stations.get(stationId)
    if (station) return { version: station.version, ...await station.call(payload, deadline) }
    await this.#unbinding.get(stationId)
    return offline(false)
  }

  /** Publishes the answer until it is confirmed, in the next session if need be. */
  #answer ({ replyTo, correlationId, headers = {} }, stationId, deadline, { type, body, version }) {
    if (type === undefined || correlationId === undefined || !MAY_BE_ANSWERED.test(replyTo)) return
    const kept = ['traceparent', 'tracestate'].filter(name => headers[name] !== undefined)
    const own = Object.fromEntries(kept.map(name => [name, headers[name]]))
    own['ocpp-station-id'] = stationId
    if (version) own['ocpp-version'] = version
    const answer = {
      publish: () => {
        if (Date.now() >= deadline) return this.#answers.delete(answer) // nobody waits any more
        const expiration = max(1, deadline - Date.now())
        this.#session?.publish('', replyTo, body, { type, correlationId, expiration, headers: own },
          () => this.#answers.delete(answer), () => setTimeout(answer.publish, 100))
      }
    }
    this.#answers.add(answer)
    answer.publish()
  }
}
