/** Files and messages that are kept where their writer cannot see it: until a conversation takes them, in another page, on a full disk. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, assertNoFaults, composer, conversationUrl, openPage, say, untilAnswer, untilConnection } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { attached, choose, long, note, reason, row, rows, slow, untilAccepted } from '../support/files.js';
import { system } from '../support/suite.js';

const parts = system();

async function open() {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await untilConnection(page, 'live');
  return page;
}

/** Begins to send a file that takes long. @param {import('playwright-core').Page} page @param {string} name */
async function begin(page, name) {
  await slow(page, 100_000);
  await choose(page, long(name, 4_000_000));
  await row(page, name).getByText(/^[1-9]\d* % of/).waitFor();
}

test('a message whose file comes while its conversation is paused goes when it is resumed', async () => {
  const page = await open();
  await say(page, 'Before the pause');
  await untilAnswer(page, 'final');
  await begin(page, 'paused.txt');
  await say(page, 'Read it');
  await reason(page, 'Sends when the file is there.').waitFor();
  await page.getByRole('button', { name: 'More actions' }).click();
  await page.getByRole('menuitem', { name: 'Pause' }).click();
  await page.getByText('Paused. No message is accepted').waitFor();
  await slow(page, 0);
  await untilAccepted(page, 'paused.txt');
  await reason(page, 'Sends when the conversation is resumed.').waitFor();
  assert.equal(await composer(page).inputValue(), 'Read it');
  await page.getByRole('button', { name: 'Resume' }).click();
  await answer(page).getByText('You said: Read it').waitFor();
  await eventually(() => attached(page).count(), 1);
  assert.equal(await composer(page).inputValue(), '');
  assertNoFaults(page);
});

test('a message that could neither be sent elsewhere nor kept stays in its field, with its files', async () => {
  const page = await open();
  await say(page, 'The other one');
  await untilAnswer(page, 'final');
  const other = await conversationUrl(page);
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await begin(page, 'heavy.txt');
  const own = await conversationUrl(page);
  await say(page, 'Do not lose me');
  await reason(page, 'Sends when the file is there.').waitFor();
  await page.evaluate(() => {
    const { setItem } = Storage.prototype;
    Storage.prototype.setItem = function set(/** @type {string} */ name, /** @type {string} */ value) {
      if (name.startsWith('soma.unsent.')) throw new DOMException('Full', 'QuotaExceededError');
      setItem.call(this, name, value);
    };
  });
  await page.route('**/v1/session/message', (route) => route.abort());
  await page.getByRole('link', { name: 'The other one' }).click();
  await page.waitForURL(other);
  await slow(page, 0);
  await page.getByText('A message in another conversation was not sent.').waitFor();
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await page.waitForURL(own);
  await eventually(() => composer(page).inputValue(), 'Do not lose me');
  await untilAccepted(page, 'heavy.txt');
  await page.unroute('**/v1/session/message');
  await composer(page).press('Enter');
  await untilAnswer(page, 'final');
  await eventually(() => attached(page).count(), 1);
  assert.equal(await composer(page).inputValue(), '');
});

test('what one page has sent is not put back into the draft by another one', async () => {
  const page = await open();
  await choose(page, note('shared.txt'));
  await untilAccepted(page, 'shared.txt');
  const other = await openPage(page.context());
  await other.goto(await conversationUrl(page));
  await untilAccepted(other, 'shared.txt');
  await say(page, 'It is sent');
  await untilAnswer(page, 'final');
  await choose(other, note('more.txt'));
  await untilAccepted(other, 'more.txt');
  await other.reload();
  await untilAccepted(other, 'more.txt');
  assert.deepEqual(await rows(other).locator('.file-name').allTextContents(), ['more.txt']);
});

test('a file that came whole without the page having heard of it is taken from the server, too, after a reload', async () => {
  const page = await open();
  await page.route('**/v1/uploads/tus/*', (route) => (
    route.request().resourceType() === 'xhr' && route.request().method() === 'GET' ? route.abort() : route.fallback()
  ));
  await choose(page, note('ended.txt'));
  await row(page, 'ended.txt').getByText('It goes on by itself.').waitFor();
  await page.reload();
  await row(page, 'ended.txt').getByText('It goes on by itself.').waitFor();
  const [{ id, filename }] = await (await fetch(`${parts.server.url}/v1/attachments?limit=1`)).json();
  assert.equal(filename, 'ended.txt');
  await page.getByRole('button', { name: /^(Cancel|Remove) ended\.txt$/ }).click();
  await eventually(async () => (await fetch(`${parts.server.url}/v1/attachments/${id}`)).status, 410);
});
