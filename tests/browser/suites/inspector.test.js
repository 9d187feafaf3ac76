/** What the machine knows, as the inspector and the list of actors show it. */
import { test } from 'node:test';
import { answer, openPage, say, untilAnswer } from '../support/browser.js';
import { eventually, until } from '../support/eventually.js';
import { gate } from '../support/model.js';
import { system } from '../support/suite.js';

const parts = system();

/** @param {import('playwright-core').Page} page @param {string} heading @param {string} term */
const fact = (page, heading, term) => page.locator('.part', { has: page.getByRole('heading', { name: heading, exact: true }) })
  .locator(`dt:text-is("${term}") + dd`);

test('the inspector follows a turn from thinking to idle', async () => {
  const rest = gate();
  parts.model.script('inspected', ['Working', rest.opened, ' done.']);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'To be inspected');
  await answer(page).getByText('Working').waitFor();
  await page.getByRole('button', { name: 'Inspector', exact: true }).click();
  await fact(page, 'Turn', 'Written').waitFor();
  await until('the turn is not idle', async () => (await fact(page, 'Turn', 'State').textContent()) !== 'idle');
  await until('the mailbox has a depth and a capacity', async () => /^\d+ \/ \d+$/.test(await fact(page, 'Mailbox', 'posts').textContent() ?? ''));

  rest.open();
  await untilAnswer(page, 'final');
  await fact(page, 'Turn', 'State').getByText('idle').waitFor();
  await fact(page, 'Turn', 'Tokens').waitFor();
  await page.getByRole('heading', { name: 'Recall' }).waitFor();
  await page.getByRole('heading', { name: 'Context' }).waitFor();
});

test('stored events are listed with their number and open to their JSON', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'Two events');
  await untilAnswer(page, 'final');
  await page.getByRole('button', { name: 'Inspector', exact: true }).click();
  const events = page.locator('.events li');
  await events.nth(1).waitFor();
  await eventually(() => events.locator('.event-seq').allTextContents(), ['2', '1']);
  await eventually(() => events.locator('.event-type').allTextContents(), ['assistant.final', 'user']);
  await events.nth(1).locator('summary').click();
  await events.nth(1).locator('pre').getByText('"message": "Two events"').waitFor();
});

test('the actors are listed with their mailboxes', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await page.getByRole('button', { name: 'Actors' }).click();
  const journal = page.getByRole('dialog', { name: 'Actors' }).getByRole('row', { name: /journal/ });
  await until('its mailbox has a depth and a capacity', async () => /\d+ \/ \d+/.test(await journal.first().textContent() ?? ''));
});
