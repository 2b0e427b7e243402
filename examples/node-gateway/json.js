// JSON, cut into pieces of text: what is passed on is not read, so that it stays as it is, byte for byte. JSON.parse
// would round integers above 2^53.

/** The elements of an array, or the members of an object ("name": value), of text that is valid JSON. */
function pieces (json) {
  const found = []
  let depth = 0
  let begin = 0
  for (const { 0: token, index } of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],]/g)) {
    if (token === '{' || token === '[') {
      if (++depth === 1) begin = index + 1
    } else if (token === '}' || token === ']' || token === ',') {
      if (depth === 1 && json.slice(begin, index).trim() !== '') found.push(json.slice(begin, index).trim())
      if (depth === 1) begin = index + 1
      if (token !== ',') depth--
    }
  }
  return found
}

/** The elements of an array. Throws SyntaxError if it is none. */
export function elements (json) {
  if (!Array.isArray(JSON.parse(json))) throw new SyntaxError('no array')
  return pieces(json)
}

/** The fields of an object, by name. Throws SyntaxError if it is none. */
export function fields (json) {
  const value = JSON.parse(json)
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new SyntaxError('no object')
  return new Map(pieces(json).map(piece => {
    const [name] = piece.match(/^"(?:[^"\\]|\\.)*"/)
    return [JSON.parse(name), piece.slice(name.length).replace(/^\s*:\s*/, '')]
  }))
}

export const isString = json => json !== undefined && json.startsWith('"')
