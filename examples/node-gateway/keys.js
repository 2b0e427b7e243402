// Routing keys, as the wire contract makes them.
import { createHash } from 'node:crypto'

/** The key of a vendorId, whose case does not count. */
export const vendorKey = vendorId => key(vendorId.replace(/[A-Z]/g, letter => letter.toLowerCase()))

/** The key of a station's id, whose case counts. */
export const stationKey = stationId => key(stationId)

function key (text) {
  const bytes = Buffer.from(text).toString('latin1') // one character for each byte of UTF-8
  const key = bytes.replace(/[^A-Za-z0-9.-]/g, byte => `_${byte.charCodeAt(0).toString(16).padStart(2, '0')}`)
  return key.length <= 200 ? key : `${key.slice(0, 100)}_x${createHash('sha256').update(key).digest('hex')}`
}
