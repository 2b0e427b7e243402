// Reads an AsyncAPI document from standard input, and prints what the official parser finds, as JSON.

import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';

const { document, diagnostics } = await new Parser().parse(readFileSync(0, 'utf8'));
console.log(JSON.stringify({
  valid: document !== undefined,
  messages: document?.allMessages().all().map((message) => message.name()) ?? [],
  // That there is a newer version of AsyncAPI is no fault of the document.
  findings: diagnostics
    .filter((each) => each.code !== 'asyncapi-latest-version')
    .map((each) => `${each.path.join('.')}: ${each.message}`),
}));
