/** The stream as a browser's own `EventSource` reads it, without any code of the page. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { openPage } from '../support/browser.js';
import { gate } from '../support/model.js';
import { system } from '../support/suite.js';

const parts = system();

test('an EventSource with nothing but onmessage sees the whole turn', async () => {
  const rest = gate();
  parts.model.script('plain reader', ['Piece by', rest.opened, ' piece.']);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await page.exposeFunction('pieceSeen', rest.open);
  const events = await page.evaluate(async (session) => {
    const source = new EventSource(`/v1/session/${session}/events`);
    await new Promise((opened) => source.addEventListener('open', opened, { once: true }));
    /** @type {any[]} */
    const seen = [];
    const ended = new Promise((resolve) => {
      source.onmessage = ({ data }) => {
        const event = JSON.parse(data);
        seen.push(event);
        if (event.type === 'assistant.stream') /** @type {any} */ (window).pieceSeen();
        if (event.metadata?.completed) resolve(undefined);
      };
    });
    await fetch('/v1/session/message', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ session_id: session, message: 'From a plain reader' }),
    });
    await ended;
    source.close();
    return seen;
  }, randomUUID());

  const kinds = events.map(({ type }) => type).filter((type, index, all) => type !== all[index - 1]);
  assert.deepEqual(kinds.filter((type) => type !== 'assistant.thinking'), ['user', 'assistant.started', 'assistant.stream', 'assistant.final']);
  assert.equal(events[0].message, 'From a plain reader');
  assert.equal(events.find(({ type }) => type === 'assistant.stream').message, 'Piece by');
  assert.equal(events.at(-1).message, 'Piece by piece.');
});
