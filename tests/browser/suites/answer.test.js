/** A message and its answer: streamed, stopped, failed, asked again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, assertNoFaults, composer, conversationUrl, openPage, say, untilAnswer, untilConnection, untilFocused } from '../support/browser.js';
import { eventually, until } from '../support/eventually.js';
import { gate } from '../support/model.js';
import { system } from '../support/suite.js';

const parts = system();

test('an answer is seen while it is written and stays when it is complete', async () => {
  const rest = gate();
  parts.model.script('night train', ['The night train ', 'leaves at', rest.opened, ' **22:04**.\n\nBring tea.']);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await untilConnection(page, 'live');

  await say(page, 'When does the night train leave?');
  await untilAnswer(page, 'streaming');
  await answer(page).getByText('The night train leaves at').waitFor();
  await eventually(() => composer(page).inputValue(), '');
  await untilFocused(composer(page));
  const first = await answer(page).locator('.md > p').first().elementHandle();

  rest.open();
  await untilAnswer(page, 'final');
  await answer(page).getByText('Bring tea.').waitFor();
  await eventually(() => answer(page).locator('strong').textContent(), '22:04');
  assert.ok(await first?.evaluate((block) => block.isConnected), 'the first paragraph was replaced');
  await conversationUrl(page);
  assertNoFaults(page);
});

test('the stop button ends the answer, keeps its text and closes the model’s connection', async () => {
  parts.model.script('long story', ['Once upon a time', gate().opened]);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'Tell me a long story');
  await answer(page).getByText('Once upon a time').waitFor();

  await page.getByRole('button', { name: 'Stop the answer' }).click();
  await untilAnswer(page, 'stopped');
  await answer(page).getByText('Once upon a time').waitFor();
  await answer(page).getByText('Stopped', { exact: true }).waitFor();
  await until('the model’s connection is closed', () => parts.model.cut.includes('long story'));
  assertNoFaults(page);
});

test('Escape stops the answer, and the next message is answered', async () => {
  parts.model.script('endless', ['on and on', gate().opened]);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'An endless one');
  await answer(page).getByText('on and on').waitFor();
  await composer(page).press('Escape');
  await untilAnswer(page, 'stopped');

  await say(page, 'And now?');
  await answer(page).getByText('You said: And now?').waitFor();
  await untilAnswer(page, 'final');
});

test('a failed answer says why, and Retry asks the same again', async () => {
  parts.model.script('moody', [{ status: 401 }], ['Fine now.']);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'A moody question');
  await untilAnswer(page, 'error');
  await answer(page).getByText('model-refused').waitFor();

  await answer(page).getByRole('button', { name: 'Retry' }).click();
  await answer(page).getByText('Fine now.').waitFor();
  await eventually(() => page.locator('.said-text').allTextContents(), ['A moody question', 'A moody question']);
});

test('a message sent during an answer waits for its turn', async () => {
  const rest = gate();
  parts.model.script('first thing', ['One', rest.opened, '.']);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'The first thing');
  await answer(page).getByText('One').waitFor();
  await say(page, 'The second');
  await page.locator('soma-turn').nth(1).waitFor();
  rest.open();
  await answer(page).getByText('You said: The second').waitFor();
  await eventually(() => page.locator('.md').allTextContents().then((all) => all.map((text) => text.trim())), ['One.', 'You said: The second']);
});

test('a screen reader hears once that an answer starts and once what it says', async () => {
  const rest = gate();
  parts.model.script('aloud', ['Slowly ', rest.opened, 'spoken.']);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await page.evaluate(() => {
    const heard = /** @type {string[]} */ ([]);
    Object.assign(window, { heard });
    const region = /** @type {Element} */ (document.querySelector('soma-announcer'));
    new MutationObserver(() => heard.push(region.textContent ?? '')).observe(region, { childList: true });
  });
  await say(page, 'Read aloud');
  await answer(page).getByText('Slowly').waitFor();
  rest.open();
  await untilAnswer(page, 'final');
  await eventually(() => page.evaluate(() => /** @type {any} */ (window).heard), ['Soma is answering.', 'Slowly spoken.']);
  assert.equal(await page.getByRole('log').getAttribute('aria-live'), 'off');
});
