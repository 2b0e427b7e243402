// Answers, in either direction: { type, body }, as the contract names them, and text.

/** There is no answer. */
export const NONE = {}

export const callError = (errorCode, errorDescription = '') =>
  ({ type: 'CallError', body: JSON.stringify({ errorCode, errorDescription, errorDetails: {} }) })

export const offline = sent => ({ type: 'StationOffline', body: JSON.stringify({ sent }) })
