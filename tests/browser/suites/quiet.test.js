/** The page without an open stream: switched off by the server, or given back while nobody looks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, assertNoFaults, conversationUrl, openPage, say, untilAnswer, untilConnection } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { gate, Model } from '../support/model.js';
import { Server } from '../support/server.js';
import { system } from '../support/suite.js';

/** Longer than a hidden page keeps its connection, shorter than a silent one is kept. */
const HIDDEN_MS = 61_000;
const parts = system();

/** Hides the page or shows it again, as switching tabs does. @param {import('playwright-core').Page} page @param {boolean} hidden */
async function hide(page, hidden) {
  await page.evaluate((now) => {
    Object.defineProperty(document, 'hidden', { configurable: true, value: now });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
}

test('where streams are switched off the page says so and asks for the answer', async () => {
  const model = await Model.start();
  const server = await Server.start({ ...model.env, GATEWAY_DISABLE_SSE: 'true' });
  try {
    const page = await openPage(parts.browser);
    await page.goto(server.url);
    await page.getByText('Live updates are switched off on this server.').waitFor();
    await say(page, 'Asked without a stream');
    await answer(page).getByText('You said: Asked without a stream').waitFor();
    await untilAnswer(page, 'final');
    const other = await openPage(page.context());
    await other.goto(await conversationUrl(page));
    await untilAnswer(other, 'final');
    await say(other, 'Said elsewhere');
    await answer(page).getByText('You said: Said elsewhere').waitFor();
    await eventually(() => page.locator('.said').count(), 2);
    assertNoFaults(page);
  } finally {
    await server.stop();
    model.stop();
  }
});

test('a page that nobody looks at gives its connection back, and misses nothing', async () => {
  const page = await openPage(parts.browser);
  await page.clock.install();
  await page.goto(parts.server.url);
  await say(page, 'Before it was hidden');
  await untilAnswer(page, 'final');
  await hide(page, true);
  await page.clock.fastForward(HIDDEN_MS);
  await untilConnection(page, 'parked');

  const other = await openPage(page.context());
  await other.goto(await conversationUrl(page));
  await say(other, 'Said meanwhile');
  await untilAnswer(other, 'final');
  assert.equal(await page.getByText('Said meanwhile').count(), 0);
  await hide(page, false);
  await untilConnection(page, 'live');
  await answer(page).getByText('You said: Said meanwhile').waitFor();
  assertNoFaults(page);
});

test('a hidden page stays connected until the answer is there', async () => {
  const rest = gate();
  parts.model.script('behind the back', ['Half', rest.opened, ' and half.']);
  const page = await openPage(parts.browser);
  await page.clock.install();
  await page.goto(parts.server.url);
  await say(page, 'Written behind the back');
  await answer(page).getByText('Half').waitFor();
  await hide(page, true);
  await page.clock.fastForward(HIDDEN_MS);
  await page.locator('soma-connection:not([data-state="parked"])').waitFor();
  rest.open();
  await answer(page).getByText('Half and half.').waitFor();
  await untilAnswer(page, 'final');
  await page.clock.fastForward(HIDDEN_MS);
  await untilConnection(page, 'parked');
});
