// A charging station's connection. Payloads go through it as they are, byte for byte.
import { randomUUID } from 'node:crypto'
import { elements, fields, isString } from './json.js'
import { NONE, callError, offline } from './reply.js'

const IN_HAND = 20 // requests, in either direction, the one that is under way included
const BEGINNING = /^\s*\[\s*[34]\s*,\s*"([^"\\]*)"/ // kind and id of an answer that cannot be read as a whole

/** Runs what is added one after the other, in this order. */
class Line {
  #last = Promise.resolve()
  inHand = 0

  get isFull () {
    return this.inHand >= IN_HAND
  }

  async add (task) {
    this.inHand++
    const before = this.#last
    let done
    this.#last = new Promise(resolve => { done = resolve })
    await before
    try {
      return await task()
    } finally {
      this.inHand--
      done()
    }
  }
}

export class Station {
  connectionId = randomUUID()
  #bridge
  #socket
  #timeout
  #requests = new Line() // of the station, for the CSMS
  #calls = new Line() // of the CSMS, for the station
  #inHand = new Map() // payloads of the station's requests, by message id
  #asked // the CALL that the station has: { id, settle }
  #lost = new AbortController() // when its socket is closed
  #unbound // when no more calls come

  constructor (bridge, socket, id, timeout) {
    this.#bridge = bridge
    this.#socket = socket
    this.#timeout = timeout
    this.id = id
    this.version = socket.protocol
    socket.on('message', data => this.#onFrame(`${data}`))
    socket.on('close', () => this.#onClose())
    bridge.connect(this)
  }

  get lost () {
    return this.#lost.signal
  }

  close (reason) {
    this.#socket.close(1001, reason) // going away
    setTimeout(() => this.#socket.terminate(), 1000).unref()
  }

  #write (frame) {
    this.#socket.send(frame, () => {}) // if it fails, the socket is lost
  }

  #writeError (messageId, code, description = '') {
    this.#write(JSON.stringify([4, messageId, code, description, {}]))
  }

  /** The code of an error that 1.6 knows by one name only. */
  #code (since2) {
    return this.version === 'ocpp1.6' ? 'FormationViolation' : since2
  }

  #onFrame (frame) {
    try {
      const parts = elements(frame)
      const [kind, messageId] = parts.slice(0, 2).map(part => JSON.parse(part))
      if (typeof messageId !== 'string') throw new SyntaxError('no message id')
      if (kind === 2 && parts.length === 4) {
        this.#onCall(messageId, parts[2], parts[3])
      } else if (kind === 3 && parts.length === 3) {
        this.#onAnswer(messageId, { type: 'DataTransferResponse', body: parts[2], ofStation: true })
      } else if (kind === 4 && parts.length === 5 && isString(parts[2]) && isString(parts[3])) {
        const details = parts[4].startsWith('{') ? parts[4] : '{}'
        const body = `{"errorCode":${parts[2]},"errorDescription":${parts[3]},"errorDetails":${details}}`
        this.#onAnswer(messageId, { type: 'CallError', body, ofStation: true })
      } else {
        throw new SyntaxError('no message')
      }
    } catch {
      const answer = BEGINNING.exec(frame)
      if (answer) this.#onAnswer(answer[1], callError(this.#code('FormatViolation'), 'The answer cannot be read.'))
      else this.#writeError('-1', this.#code('RpcFrameworkError'))
    }
  }

  // ---- station → CSMS ----

  #onCall (messageId, action, payload) {
    if (action !== '"DataTransfer"') {
      this.#writeError(messageId, 'NotImplemented') // where your gateway does the rest of OCPP
    } else if (messageId.length > 36) {
      this.#writeError(messageId, this.#code('RpcFrameworkError'), 'The message id has more than 36 characters.')
    } else if (this.#inHand.get(messageId) === payload) {
      // One answer serves both.
    } else if (this.#requests.isFull) {
      this.#writeError(messageId, 'GenericError', 'Too many requests wait.')
    } else {
      this.#inHand.set(messageId, payload)
      const deadline = Date.now() + this.#timeout
      this.#requests.add(() => this.#ask(messageId, payload, deadline))
    }
  }

  async #ask (messageId, payload, deadline) {
    if (this.lost.aborted) return
    const request = { station: this, messageId, vendorId: vendorOf(payload), payload, deadline }
    const { type, body } = await this.#bridge.ask(request)
    this.#inHand.delete(messageId)
    if (type === 'DataTransferResponse') {
      this.#write(`[3,${JSON.stringify(messageId)},${body}]`)
    } else if (type === 'CallError') {
      const error = fields(body)
      const parts = ['errorCode', 'errorDescription', 'errorDetails'].map(name => error.get(name))
      this.#write(`[4,${JSON.stringify(messageId)},${parts.join()}]`)
    } else {
      this.#writeError(messageId, 'InternalError')
    }
  }

  // ---- CSMS → station ----

  /** Has the station answer, in its turn. */
  async call (payload, deadline) {
    if (this.#calls.isFull) return callError('GenericError', 'Too many requests wait for this station.')
    return this.#calls.add(() => this.#send(payload, deadline))
  }

  async #send (payload, deadline) {
    if (this.lost.aborted) {
      await this.#unbound // not before: the CSMS looks for the station again at once
      return offline(false)
    }
    if (Date.now() >= deadline) return NONE // nobody waits any more
    let sent
    try {
      sent = inVersion(this.version, payload)
    } catch {
      return callError(this.#code('FormatViolation'), 'The request cannot be read.')
    }
    const id = randomUUID()
    const answer = new Promise(resolve => {
      const timer = setTimeout(() => settle(NONE), deadline - Date.now()) // a late answer is nobody's
      const settle = reply => {
        clearTimeout(timer)
        this.#asked = undefined
        resolve(reply)
      }
      this.#asked = { id, settle }
    })
    this.#write(`[2,"${id}","DataTransfer",${sent}]`)
    return answer
  }

  #onAnswer (messageId, reply) {
    if (this.#asked?.id === messageId) this.#asked.settle(reply)
  }

  async #onClose () {
    this.#lost.abort()
    this.#unbound = this.#bridge.disconnect(this)
    await this.#unbound
    this.#asked?.settle(offline(true))
  }
}

/** The vendorId, or '' if there is none that makes a key: the bridge answers what is broken. */
function vendorOf (payload) {
  const { vendorId } = Object(JSON.parse(payload))
  return typeof vendorId === 'string' && [...vendorId].length <= 255 ? vendorId : ''
}

/** The payload in the station's version: 1.6 has three fields, and data is text. Throws if it is no object. */
function inVersion (version, payload) {
  const given = fields(payload)
  if (version !== 'ocpp1.6') return payload
  const data = given.get('data')
  if (data !== undefined && !isString(data)) given.set('data', data === 'null' ? data : JSON.stringify(data))
  const known = ['vendorId', 'messageId', 'data'].filter(name => given.has(name) && given.get(name) !== 'null')
  return `{${known.map(name => `"${name}":${given.get(name)}`)}}`
}
