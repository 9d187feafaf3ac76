/** The list of conversations and the addresses of its entries. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { answer, composer, conversationUrl, openPage, say, untilAnswer, untilConnection, untilStill } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { gate } from '../support/model.js';
import { system } from '../support/suite.js';

const parts = system();

/**
 * Holds back what the first request to an address is answered: by the time it arrives it is out of date.
 * @param {import('playwright-core').Page} page @param {string} address
 * @returns {Promise<() => Promise<void>>} lets it go, and waits until the page has made of it what it will
 */
async function holdBack(page, address) {
  const [held, arrived] = [gate(), gate()];
  let isFirst = true;
  await page.route(address, async (route) => {
    if (!isFirst) return route.continue();
    isFirst = false;
    const response = await route.fetch();
    await held.opened;
    await route.fulfill({ response });
    await (await route.request().response())?.finished();
    arrived.open();
  });
  return async () => {
    held.open();
    await arrived.opened;
    await untilStill(page);
  };
}

test('a conversation is listed under today, found by its title, and opened by its address', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'Tea and trains');
  await untilAnswer(page, 'final');
  const address = await conversationUrl(page);
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await say(page, 'Something else');
  await untilAnswer(page, 'final');

  const today = page.getByRole('region', { name: 'Today' });
  await eventually(() => today.getByRole('link').allTextContents(), ['Something else', 'Tea and trains']);
  await page.getByRole('searchbox', { name: 'Search titles' }).fill('trains');
  await today.getByRole('link', { name: 'Something else' }).waitFor({ state: 'detached' });
  await today.getByRole('link', { name: 'Tea and trains' }).click();
  await answer(page).getByText('You said: Tea and trains').waitFor();
  await page.waitForURL(address);

  const other = await openPage(parts.browser);
  await other.goto(address);
  await answer(other).getByText('You said: Tea and trains').waitFor();
  await eventually(() => other.title(), 'Tea and trains · SomaAgent01');
});

test('a conversation is renamed in the list and deleted after a question', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'To be renamed');
  await untilAnswer(page, 'final');
  await page.getByRole('link', { name: 'To be renamed' }).hover();
  await page.getByRole('button', { name: 'Actions for To be renamed' }).click();
  await page.getByRole('menuitem', { name: 'Rename' }).click();
  await page.getByRole('textbox', { name: 'New title' }).fill('Renamed');
  const renamed = page.waitForResponse((response) => response.request().method() === 'PATCH');
  await page.keyboard.press('Enter');
  await renamed;
  await page.reload();
  await page.getByRole('heading', { level: 1, name: 'Renamed' }).waitFor();

  await page.getByRole('button', { name: 'Actions for Renamed' }).click();
  await page.getByRole('menuitem', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByText('What was remembered of it stays').waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  await page.getByRole('link', { name: 'Renamed' }).waitFor();
  await page.getByRole('button', { name: 'Actions for Renamed' }).click();
  await page.getByRole('menuitem', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('link', { name: 'Renamed' }).waitFor({ state: 'detached' });
  await page.getByRole('heading', { name: 'What would you like to know?' }).waitFor();
});

for (const where of ['here', 'elsewhere']) {
  test(`a conversation that is deleted ${where} leaves nothing of what was typed in it in the browser`, async () => {
    const page = await openPage(parts.browser);
    await page.goto(parts.server.url);
    await say(page, 'Sent before it was deleted');
    await untilAnswer(page, 'final');
    await untilConnection(page, 'live');
    const id = new URL(await conversationUrl(page)).pathname.split('/').at(-1);
    await page.route('**/v1/session/message', (route) => route.abort('connectionrefused'));
    await say(page, 'Never sent');
    await page.getByText('Not sent.').waitFor();
    await composer(page).fill('Never finished');
    const kept = () => page.evaluate(() => JSON.stringify({ ...localStorage }));
    assert.match(await kept(), /Never sent.*Never finished|Never finished.*Never sent/);

    if (where === 'here') {
      await page.getByRole('button', { name: 'More actions' }).click();
      await page.getByRole('menuitem', { name: 'Delete' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
      await page.getByRole('heading', { name: 'What would you like to know?' }).waitFor();
    } else {
      await fetch(`${parts.server.url}/v1/sessions/${id}`, { method: 'DELETE' });
      await page.getByRole('heading', { name: 'This conversation was deleted' }).waitFor();
    }
    await eventually(async () => (await kept()).match(/Never \w+/g), null);
  });
}

test('a paused conversation says so and takes messages again once resumed', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'To be paused');
  await untilAnswer(page, 'final');
  await page.getByRole('button', { name: 'More actions' }).click();
  await page.getByRole('menuitem', { name: 'Pause' }).click();
  await page.getByText('Paused. No message is accepted').waitFor();
  await page.reload();
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.getByText('Paused. No message is accepted').waitFor({ state: 'detached' });
  await say(page, 'Go on');
  await answer(page).getByText('You said: Go on').waitFor();
});

test('a title is shown as it is stored, and no longer one can be typed', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'To be renamed twice');
  await untilAnswer(page, 'final');
  const id = new URL(await conversationUrl(page)).pathname.split('/').at(-1);
  const stored = async () => {
    const sessions = await (await fetch(`${parts.server.url}/v1/sessions`)).json();
    return sessions.find((/** @type {any} */ session) => session.session_id === id).title;
  };
  for (const [typed, title] of [['a\u202Egnp.exe', 'agnp.exe'], ['x'.repeat(120), 'x'.repeat(80)]]) {
    await page.getByRole('heading', { level: 1 }).getByRole('button').click();
    const field = page.getByRole('textbox', { name: 'New title' });
    await field.fill('');
    await page.keyboard.insertText(typed);
    const renamed = page.waitForResponse((response) => response.request().method() === 'PATCH');
    await page.keyboard.press('Enter');
    await renamed;
    assert.equal(await stored(), title);
    await eventually(() => page.title(), `${title} · SomaAgent01`);
    await page.getByRole('link', { name: title, exact: true }).waitFor();
  }
});

test('a list that was read before a message was sent does not take its conversation away', async () => {
  const page = await openPage(parts.browser);
  const letGo = await holdBack(page, '**/v1/sessions?*');
  await page.goto(parts.server.url);
  await say(page, 'Sent while the list was read');
  await untilAnswer(page, 'final');
  const entry = page.getByRole('link', { name: 'Sent while the list was read' });
  await entry.waitFor();
  await letGo();
  assert.equal(await entry.count(), 1);
});

test('a state that was read before a conversation was resumed does not pause it again', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'Said before the pause');
  await untilAnswer(page, 'final');
  await page.getByRole('button', { name: 'More actions' }).click();
  await page.getByRole('menuitem', { name: 'Pause' }).click();
  const notice = page.getByText('Paused. No message is accepted');
  await notice.waitFor();
  const letGo = await holdBack(page, '**/v1/sessions/*/state');
  await page.reload();
  await page.getByRole('button', { name: 'Resume' }).click();
  await notice.waitFor({ state: 'detached' });
  await letGo();
  assert.equal(await notice.count(), 0);
});

test('an address nobody has used takes a first message', async () => {
  const page = await openPage(parts.browser);
  const id = randomUUID();
  await page.goto(`${parts.server.url}/s/${id}`);
  await say(page, 'First here');
  await answer(page).getByText('You said: First here').waitFor();
  await page.waitForURL(`**/s/${id}`);
});

test('a message sent before the conversation was loaded is shown and answered', async () => {
  const page = await openPage(parts.browser);
  const id = randomUUID();
  const posted = page.waitForResponse((response) => response.url().endsWith('/v1/session/message'));
  // What was read before the message arrives after it.
  await page.route(`**/v1/sessions/${id}/events?**`, async (route) => {
    const early = await route.fetch();
    await posted;
    await route.fulfill({ response: early });
  });
  await page.goto(`${parts.server.url}/s/${id}`);
  await say(page, 'First here');
  await answer(page).getByText('You said: First here').waitFor();
  await eventually(() => page.locator('soma-turn').count(), 1);
});

test('an address that is none of a conversation shows a page that says so', async () => {
  const page = await openPage(parts.browser);
  const response = await page.goto(`${parts.server.url}/s/not-a-uuid`);
  assert.equal(response?.status(), 404);
  await page.getByText('No conversation here').waitFor();
});
