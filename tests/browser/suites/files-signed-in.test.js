/** Files of people who sign in. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertNoFaults, composer, openPage, say, untilAnswer, untilConnection } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { attached, choose, note, row, rows, untilAccepted } from '../support/files.js';
import { signIn } from '../support/provider.js';
import { systemWithProvider } from '../support/suite.js';

const parts = systemWithProvider({ GATEWAY_CSRF_ENABLED: 'true' });

async function signedIn() {
  const page = await openPage(parts.browser);
  await signIn(page, `${parts.server.url}/`, 'ann');
  await untilConnection(page, 'live');
  return page;
}

test('files go out with the token of the login, also where the page has lost it', async () => {
  const page = await signedIn();
  await choose(page, note('first.txt'));
  await untilAccepted(page, 'first.txt');
  await page.context().addCookies([{ name: 'csrf_token', value: 'planted', url: parts.server.url }]);
  await choose(page, note('second.txt'));
  await untilAccepted(page, 'second.txt');
  await say(page, 'Two of mine');
  await untilAnswer(page, 'final');
  await eventually(() => attached(page).getByRole('link').count(), 2);
  await page.reload();
  await eventually(() => attached(page).getByRole('link').count(), 2);
  assertNoFaults(page);
});

test('a file for which the login has ended is taken after the next one', async () => {
  const page = await signedIn();
  await page.context().clearCookies({ name: 'login' });
  await choose(page, note('late.txt'));
  await row(page, 'late.txt').locator('.icon-alert').waitFor();
  await untilConnection(page, 'signed-out');
  const tab = await openPage(page.context());
  await tab.goto(parts.server.url);
  await tab.getByRole('link', { name: 'Sign in with' }).click();
  await untilConnection(tab, 'live');
  await untilConnection(page, 'live');
  await page.getByRole('button', { name: 'Retry late.txt' }).click();
  await untilAccepted(page, 'late.txt');
});

test('what somebody has added to a message is not shown to somebody else', async () => {
  const page = await signedIn();
  await composer(page).fill('For nobody else');
  await choose(page, note('private.txt'));
  await untilAccepted(page, 'private.txt');
  const address = page.url();
  await page.reload();
  await untilAccepted(page, 'private.txt');
  await page.context().clearCookies({ name: 'login' });
  await page.context().clearCookies({ domain: 'localhost' });
  await signIn(page, address, 'bob');
  await untilConnection(page, 'live');
  assert.equal(await rows(page).count(), 0);
  assert.equal(await composer(page).inputValue(), '');
  const left = await page.evaluate(() => JSON.stringify({ ...localStorage }));
  assert.ok(!left.includes('private.txt'), left);
});
