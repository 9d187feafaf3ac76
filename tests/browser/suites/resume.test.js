/** What survives: a reload, a lost server, a message that could not be sent, a draft. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, assertNoFaults, composer, conversationUrl, openPage, say, untilAnswer, untilConnection } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { gate } from '../support/model.js';
import { system } from '../support/suite.js';

/** A turn is taken up again once the lease of the process that was killed has run out. */
const RESUME_MS = 180_000;
const parts = system();

test('a reload in the middle of an answer shows it so far and goes on', async () => {
  const rest = gate();
  parts.model.script('reload', ['Half of ', 'it', rest.opened, ' and the rest.']);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'Before the reload');
  await answer(page).getByText('Half of it').waitFor();

  await page.reload();
  await answer(page).getByText('Half of it').waitFor();
  await eventually(() => page.locator('.said-text').textContent(), 'Before the reload');
  rest.open();
  await answer(page).getByText('Half of it and the rest.').waitFor();
  await untilAnswer(page, 'final');
  await eventually(() => page.locator('soma-turn').count(), 1);
  assertNoFaults(page);
});

test('after the server was killed the answer begins anew and nothing of the first attempt stays', async () => {
  parts.model.script('power cut', ['Void text', gate().opened], ['The second attempt.']);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'Before the power cut');
  await answer(page).getByText('Void text').waitFor();

  await parts.server.kill();
  await untilConnection(page, 'waiting');
  await page.getByText(/Reconnecting in \d+ s/).waitFor();
  await composer(page).fill('typed while it was away');
  await parts.server.again();

  await answer(page).getByText('The second attempt.').waitFor({ timeout: RESUME_MS });
  await untilAnswer(page, 'final', RESUME_MS);
  await eventually(() => page.getByText('Void text').count(), 0);
  await eventually(() => composer(page).inputValue(), 'typed while it was away');
  await untilConnection(page, 'live');
});

test('a message that cannot be sent stays with the reason, survives a reload, and is stored once', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'The first one');
  await untilAnswer(page, 'final');
  let isAway = true;
  await page.route('**/v1/session/message', (route) => (isAway ? route.abort('connectionrefused') : route.continue()));

  await say(page, 'Into the void');
  await page.getByText('The server could not be reached.').waitFor();
  await page.reload();
  const failed = page.locator('soma-turn', { hasText: 'Into the void' });
  await failed.getByRole('button', { name: 'Retry' }).click();
  await page.getByText('The server could not be reached.').waitFor();
  isAway = false;
  await failed.getByRole('button', { name: 'Retry' }).click();
  await answer(page).getByText('You said: Into the void').waitFor();
  await page.reload();
  await answer(page).getByText('You said: Into the void').waitFor();
  await eventually(() => page.locator('.said-text', { hasText: 'Into the void' }).count(), 1);
});

test('a message that was refused says after a reload why it was', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'The first one');
  await untilAnswer(page, 'final');
  await say(page, 'long '.repeat(60_000));
  const reason = page.locator('soma-turn').last().getByRole('alert');
  await reason.waitFor();
  const said = await reason.textContent();
  assert.match(said ?? '', /262144 bytes/);
  await page.reload();
  await reason.waitFor();
  await eventually(() => reason.textContent(), said);
  assert.equal(await page.getByText('The server could not be reached.').count(), 0);
});

test('a reply that was lost on its way does not make the message count twice', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  let losses = 1;
  await page.route('**/v1/session/message', async (route) => {
    if (losses === 0) return route.continue();
    losses -= 1;
    await route.fetch();
    return route.abort('connectionreset');
  });
  await say(page, 'Said once');
  await answer(page).getByText('You said: Said once').waitFor();
  await untilAnswer(page, 'final');
  await eventually(() => page.locator('.said').count(), 1);
  await eventually(() => page.getByText('Not sent.').count(), 0);
});

test('a quick action says in words why it failed, and asked for again counts once', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'Something to sum up');
  await untilAnswer(page, 'final');
  /** @type {(string | undefined)[]} */
  const keys = [];
  await page.route('**/v1/session/action', (route) => {
    keys.push(route.request().headers()['idempotency-key']);
    return keys.length === 1 ? route.abort('connectionrefused') : route.continue();
  });
  const summarise = async () => {
    await page.keyboard.press('Control+k');
    await page.getByRole('combobox').fill('Summarise');
    await page.getByRole('option', { name: 'Summarise this conversation', selected: true }).waitFor();
    await page.keyboard.press('Enter');
  };
  await summarise();
  await page.getByText('Summarise this conversation: The server could not be reached.').waitFor();
  for (const count of [2, 3]) {
    await summarise();
    await eventually(() => page.locator('soma-turn soma-answer[data-phase="final"]').count(), count);
  }
  assert.match(keys[0] ?? '', /^[0-9a-f-]{36}$/);
  assert.deepEqual([keys[1] === keys[0], keys[2] === keys[0], keys.length], [true, false, 3]);
});

test('each conversation keeps its draft', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'A conversation with a draft');
  await untilAnswer(page, 'final');
  await composer(page).fill('half a thought');
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await eventually(() => composer(page).inputValue(), '');
  await composer(page).fill('another one');
  await page.goBack();
  await page.getByText('You said: A conversation with a draft').waitFor();
  await eventually(() => composer(page).inputValue(), 'half a thought');
  await page.reload();
  await page.getByText('You said: A conversation with a draft').waitFor();
  await eventually(() => composer(page).inputValue(), 'half a thought');
});

test('without a network the page says so and comes back by itself', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await untilConnection(page, 'live');
  await page.context().setOffline(true);
  await untilConnection(page, 'offline');
  await page.context().setOffline(false);
  await untilConnection(page, 'live');
});

test('a page that was away while its conversation was reset shows what is left, and reads it once', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'Before the reset');
  await untilAnswer(page, 'final');
  await page.context().setOffline(true);
  await untilConnection(page, 'offline');
  const id = new URL(await conversationUrl(page)).pathname.split('/').at(-1);
  const reset = await fetch(`${parts.server.url}/v1/sessions/${id}/reset`, { method: 'POST' });
  assert.equal(reset.status, 200);
  let reads = 0;
  page.on('request', (request) => (reads += request.url().includes(`/v1/sessions/${id}/events`) ? 1 : 0));

  await page.context().setOffline(false);
  await page.locator('soma-turn').first().waitFor({ state: 'detached' });
  await untilConnection(page, 'live');
  await say(page, 'After the reset');
  await answer(page).getByText('You said: After the reset').waitFor();
  await untilAnswer(page, 'final');
  await eventually(() => page.locator('soma-turn').count(), 1);
  assert.equal(reads, 1);
  assertNoFaults(page);
});
