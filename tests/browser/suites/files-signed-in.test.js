/** Files of people who sign in. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertNoFaults, composer, conversationUrl, openPage, say, untilAnswer, untilConnection } from '../support/browser.js';
import { eventually, until } from '../support/eventually.js';
import { attached, choose, long, note, row, rows, shelf, slow, untilAccepted } from '../support/files.js';
import { sayWho, signIn } from '../support/provider.js';
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

test('what somebody has added is shown to nobody before it is known who is here', async () => {
  const page = await signedIn();
  await composer(page).fill('For nobody else');
  await choose(page, note('private.txt'));
  await untilAccepted(page, 'private.txt');
  const address = page.url();
  await page.context().clearCookies({ name: 'login' });
  await page.context().clearCookies({ domain: 'localhost' });
  let asked = 0;
  let isAway = true;
  await page.route('**/v1/auth/session', (route) => {
    asked += 1;
    return isAway ? route.fulfill({ status: 503, json: { code: 'unavailable', title: 'Away' } }) : route.fallback();
  });
  await signIn(page, address, 'bob');
  await until('it is asked again', () => asked > 2);
  assert.equal(await rows(page).count(), 0);
  assert.equal(await page.locator('textarea').inputValue(), '');
  isAway = false;
  await untilConnection(page, 'live');
  assert.equal(await rows(page).count(), 0);
  assert.equal(await composer(page).inputValue(), '');
  const left = await page.evaluate(() => JSON.stringify({ ...localStorage }));
  assert.ok(!left.includes('private.txt'), left);
  assertNoFaults(page);
});

/** @param {import('playwright-core').Page} page */
async function signOut(page) {
  await page.getByRole('button', { name: 'Account of Ann Tea' }).click();
  await page.getByRole('menuitem', { name: 'Sign out', exact: true }).click();
}

/** Begins to send a file that takes long. @param {import('playwright-core').Page} page @param {string} name @returns {Promise<string>} where it is */
async function begin(page, name) {
  await slow(page, 100_000);
  const begun = page.waitForResponse((response) => response.request().method() === 'POST' && response.url().endsWith('/v1/uploads/tus'));
  await choose(page, long(name, 8_000_000));
  const { location } = await (await begun).allHeaders();
  await row(page, name).getByText(/^[1-9]\d* % of/).waitFor();
  return location;
}

test('what somebody had under way is neither shown to nor sent by somebody else, and the page that sent it stops', async () => {
  const page = await signedIn();
  await begin(page, 'secret.txt');
  const address = page.url();
  const next = await openPage(page.context());
  /** @type {string[]} */
  const sent = [];
  await eventually(() => shelf(page), ['secret.txt']);
  for (const one of [page, next]) one.on('request', (request) => request.url().includes('/v1/uploads') && sent.push(request.url()));
  await page.context().clearCookies();
  await signIn(next, address, 'bob');
  await untilConnection(next, 'live');
  await eventually(() => rows(page).count(), 0);
  await eventually(() => shelf(next), []);
  assert.equal(await rows(next).count(), 0);
  await next.reload();
  await untilConnection(next, 'live');
  assert.equal(await rows(next).count(), 0);
  assert.deepEqual(sent, []);
  assertNoFaults(next);
});

test('what the server does not know because somebody else is signed in is not sent in their name', async () => {
  const page = await signedIn();
  await begin(page, 'secret.txt');
  const elsewhere = await openPage(parts.browser);
  await signIn(elsewhere, `${parts.server.url}/`, 'bob');
  const theirs = await elsewhere.context().cookies(parts.server.url);
  /** @type {string[]} */
  const sent = [];
  page.on('request', (request) => request.url().includes('/v1/uploads') && sent.push(request.method()));
  await page.context().setOffline(true);
  await row(page, 'secret.txt').getByText('It goes on by itself.').waitFor();
  await page.context().addCookies(theirs);
  await page.context().setOffline(false);
  await row(page, 'secret.txt').getByText('Your sign-in has ended. Sign in again, then try once more.').waitFor();
  assert.ok(sent.length > 0 && sent.every((method) => method === 'GET'), `${sent}`);
});

test('a file is not begun in the name of somebody who signed in since', async () => {
  const page = await signedIn();
  const elsewhere = await openPage(parts.browser);
  await signIn(elsewhere, `${parts.server.url}/`, 'bob');
  /** @type {string[]} */
  const sent = [];
  page.on('request', (request) => request.url().includes('/v1/uploads') && sent.push(request.method()));
  await page.context().addCookies(await elsewhere.context().cookies(parts.server.url));
  await choose(page, note('secret.txt'));
  await row(page, 'secret.txt').getByText('Your sign-in has ended. Sign in again, then try once more.').waitFor();
  assert.deepEqual(sent, []);
});

test('a file goes on for whoever had it under way when their login ended', async () => {
  const page = await signedIn();
  await begin(page, 'mine.txt');
  await page.context().clearCookies({ name: 'login' });
  await page.reload();
  await page.getByRole('link', { name: 'Sign in with' }).click();
  await untilConnection(page, 'live');
  await slow(page, 0);
  await untilAccepted(page, 'mine.txt');
});

test('who signs out takes along what they had under way, and who could not goes on', async () => {
  const page = await signedIn();
  await page.route('**/v1/auth/logout', (route) => route.abort(), { times: 1 });
  const first = await begin(page, 'mine.txt');
  const again = page.waitForResponse((response) => response.request().method() === 'POST' && response.url().endsWith('/v1/uploads/tus'));
  await signOut(page);
  await page.getByText('Sign out: The server could not be reached.').waitFor();
  const { location: second } = await (await again).allHeaders();
  await row(page, 'mine.txt').getByText(/^[1-9]\d* % of/).waitFor();
  await signOut(page);
  await page.waitForURL(`${parts.server.url}/login`);
  assert.deepEqual(await shelf(page), []);
  await slow(page, 0);
  await page.goto(parts.server.url);
  await page.getByRole('link', { name: 'Sign in with' }).click();
  await sayWho(page, 'ann');
  await untilConnection(page, 'live');
  assert.equal(await rows(page).count(), 0);
  for (const place of [first, second]) assert.equal((await page.request.get(`${parts.server.url}${place}`)).status(), 404);
});

test('who signs out takes along what waits in another conversation, too', async () => {
  const page = await signedIn();
  await say(page, 'The other one');
  await untilAnswer(page, 'final');
  const other = await conversationUrl(page);
  await page.getByRole('button', { name: 'New chat' }).first().click();
  const at = await begin(page, 'left.txt');
  await eventually(() => shelf(page), ['left.txt']);
  await page.goto(other);
  await untilConnection(page, 'live');
  assert.equal((await page.request.get(`${parts.server.url}${at}`)).status(), 200);
  await signOut(page);
  await page.waitForURL(`${parts.server.url}/login`);
  assert.deepEqual(await shelf(page), []);
  await signIn(page, `${parts.server.url}/`, 'ann');
  await untilConnection(page, 'live');
  assert.equal((await page.request.get(`${parts.server.url}${at}`)).status(), 404);
});

test('a page that is still there after signing out sends files again once somebody has signed in', async () => {
  const page = await signedIn();
  await page.route(`${parts.server.url}/login`, (route) => route.fulfill({ status: 204 }));
  const tried = page.waitForRequest(`${parts.server.url}/login`);
  await signOut(page);
  await tried;
  const next = await openPage(page.context());
  await signIn(next, `${parts.server.url}/`, 'ann');
  await untilConnection(next, 'live');
  await choose(page, note('again.txt'));
  await untilAccepted(page, 'again.txt');
});
