/** What the page says when a part of the system is missing. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { answer, launch, openPage, say, untilAnswer, untilStill } from '../support/browser.js';
import { until } from '../support/eventually.js';
import { Model } from '../support/model.js';
import { freePort, Server } from '../support/server.js';

/** @type {import('playwright-core').Browser} */
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

test('with nothing configured the offline responder answers and the page says what it is', async () => {
  const server = await Server.start();
  try {
    const page = await openPage(browser);
    await page.goto(server.url);
    await page.getByText('No language model is connected.').waitFor();
    await say(page, 'Hello');
    await untilAnswer(page, 'final');
    await until('the answer has a text', async () => (await answer(page).locator('.md').textContent())?.trim() !== '');
    await page.getByRole('button', { name: 'Hide this notice' }).click();
    const known = page.waitForResponse('**/ui/config.json');
    await page.reload();
    await known;
    await untilAnswer(page, 'final');
    await untilStill(page);
    assert.equal(await page.getByText('No language model is connected.').count(), 0);
  } finally {
    await server.stop();
  }
});

test('without its memory the agent answers and the page says what is missing', async () => {
  const model = await Model.start();
  const server = await Server.start({ ...model.env, SOMA_BASE_URL: `http://127.0.0.1:${await freePort()}` });
  try {
    const page = await openPage(browser);
    await page.goto(server.url);
    // Nothing has been said: the server's own look tells.
    await page.getByText('Memory is not available.').waitFor();
    await say(page, 'Do you remember?');
    await answer(page).getByText('You said: Do you remember?').waitFor();
    await page.getByText('Memory is not available.').waitFor();
  } finally {
    await server.stop();
    model.stop();
  }
});
