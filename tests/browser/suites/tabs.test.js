/** Two pages on one conversation agree without a reload. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, conversationUrl, openPage, say, untilAnswer, untilConnection } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { gate } from '../support/model.js';
import { system } from '../support/suite.js';

const parts = system();

/** @returns {Promise<[import('playwright-core').Page, import('playwright-core').Page]>} */
async function twoTabs() {
  const one = await openPage(parts.browser);
  await one.goto(parts.server.url);
  await say(one, 'Hello from the first');
  await untilAnswer(one, 'final');
  const two = await openPage(one.context());
  await two.goto(await conversationUrl(one));
  await untilAnswer(two, 'final');
  await untilConnection(two, 'live');
  return [one, two];
}

/** @param {import('playwright-core').Page} page */
const shown = (page) => page.locator('.said-text, .md').allTextContents().then((all) => all.map((text) => text.trim()));

test('both show what either says, and the answer while it is written', async () => {
  const rest = gate();
  parts.model.script('to both', ['Seen', rest.opened, ' twice.']);
  const [one, two] = await twoTabs();
  await say(two, 'Said to both');
  await Promise.all([one, two].map((page) => answer(page).getByText('Seen').waitFor()));
  rest.open();
  await Promise.all([one, two].map((page) => answer(page).getByText('Seen twice.').waitFor()));
  for (const page of [one, two]) {
    await eventually(() => shown(page), ['Hello from the first', 'You said: Hello from the first', 'Said to both', 'Seen twice.']);
  }
});

test('either can stop the answer', async () => {
  parts.model.script('stoppable', ['Running', gate().opened]);
  const [one, two] = await twoTabs();
  await say(one, 'A stoppable one');
  await answer(two).getByText('Running').waitFor();
  await two.getByRole('button', { name: 'Stop the answer' }).click();
  await Promise.all([one, two].map((page) => untilAnswer(page, 'stopped')));
});

test('a new title reaches the other', async () => {
  const [one, two] = await twoTabs();
  await one.getByRole('heading', { level: 1 }).getByRole('button').click();
  await one.getByRole('textbox', { name: 'New title' }).fill('Renamed in the first');
  await one.keyboard.press('Enter');
  await two.getByRole('heading', { level: 1, name: 'Renamed in the first' }).waitFor();
  await two.getByRole('link', { name: 'Renamed in the first' }).waitFor();
});

test('a deleted conversation is gone from both', async () => {
  const [one, two] = await twoTabs();
  await one.getByRole('button', { name: 'More actions' }).click();
  await one.getByRole('menuitem', { name: 'Delete' }).click();
  await one.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await two.getByRole('heading', { name: 'This conversation was deleted' }).waitFor();
  await one.waitForURL(`${parts.server.url}/`);
  await two.reload();
  await two.getByRole('heading', { name: 'This conversation was deleted' }).waitFor();
});

test('a reset empties both', async () => {
  const [one, two] = await twoTabs();
  const id = new URL(await conversationUrl(one)).pathname.slice('/s/'.length);
  assert.equal((await one.request.post(`${parts.server.url}/v1/sessions/${id}/reset`)).status(), 200);
  await Promise.all([one, two].map((page) => page.locator('soma-turn').waitFor({ state: 'detached' })));
  await say(two, 'Said afterwards');
  await Promise.all([one, two].map((page) => answer(page).getByText('You said: Said afterwards').waitFor()));
});
