// The life of one connection: two channels, one to consume and one to publish, and two private queues.
import amqp from 'amqplib'
import { stationKey } from './keys.js'

const PREFETCH = 200 // requests of the CSMS in hand

export class Session {
  /** Connects, and declares what a gateway needs. `onEnd` is called when the connection has ended. */
  static async open (url, { onReturn, onEnd }) {
    const session = new Session()
    session.onReturn = onReturn
    session.connection = await amqp.connect(url, { heartbeat: 10 })
    session.connection.on('error', () => {}).on('close', error => {
      session.ended = true
      onEnd(error)
    })
    try {
      await session.#declare()
      await session.#openOut()
    } catch (error) {
      await session.close()
      throw error
    }
    return session
  }

  /** With the arguments of the contract, so it does not matter who comes first. */
  async #declare () {
    const channel = this.in = await this.connection.createChannel()
    channel.on('error', () => this.close())
    await channel.assertExchange('datatransfer.unrouted', 'fanout')
    await channel.assertExchange('datatransfer', 'direct', { alternateExchange: 'datatransfer.unrouted' })
    await channel.assertExchange('datatransfer.stations', 'direct')
    // The broker makes the names: nobody else can have them.
    const own = { exclusive: true, autoDelete: true, durable: false }
    this.replies = (await channel.assertQueue('', own)).queue
    this.requests = (await channel.assertQueue('', own)).queue
    await channel.prefetch(PREFETCH)
  }

  async consume (onReply, onRequest) {
    await this.in.consume(this.replies, onReply, { noAck: true })
    await this.in.consume(this.requests, onRequest, { consumerTag: 'requests' })
  }

  async cancel () {
    await this.in.cancel('requests')
  }

  ack (message) {
    try {
      this.in.ack(message)
    } catch {} // the channel is closed, and the queue has gone with it
  }

  async bind (stationId) {
    await this.in.bindQueue(this.requests, 'datatransfer.stations', stationKey(stationId))
  }

  async unbind (stationId) {
    await this.in.unbindQueue(this.requests, 'datatransfer.stations', stationKey(stationId))
  }

  /** Publishes, and tells whether the broker takes it. A message that no queue takes is returned, and then confirmed. */
  publish (exchange, key, body, properties, onConfirmed, onRefused) {
    const out = this.out
    const options = { contentType: 'application/json', persistent: true, ...properties }
    const again = async () => {
      await this.#renew(out) // the contract: again, on another channel
      if (!this.ended) onRefused() // else the next session publishes it
    }
    try {
      out.publish(exchange, key, Buffer.from(body), options, error => error ? again() : onConfirmed())
    } catch { // the channel is closed
      again()
    }
  }

  async close () {
    try {
      await this.connection.close()
    } catch {} // it is closed
  }

  async #openOut () {
    const out = await this.connection.createConfirmChannel()
    this.out = out.on('error', () => this.#renew(out)).on('return', this.onReturn)
  }

  async #renew (used) {
    if (this.ended || this.out !== used) return
    this.renewing ??= this.#openOut()
      .then(() => used.close())
      .catch(() => this.out === used && this.close()) // the next connection may be better
      .finally(() => { this.renewing = undefined })
    await this.renewing
  }
}
