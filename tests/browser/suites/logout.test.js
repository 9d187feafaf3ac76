/** Logins end: because somebody signs out, because their time is over, or somewhere else. What was typed outlives them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, assertNoFaults, axe, composer, conversationUrl, openPage, say, untilAnswer, untilConnection, untilFocused } from '../support/browser.js';
import { eventually, until } from '../support/eventually.js';
import { sayWho, signIn } from '../support/provider.js';
import { startWithProvider, systemWithProvider } from '../support/suite.js';

/** Seconds of a login that shall end by itself: long enough to say something on a slow machine. */
const SHORT_SECONDS = '20';
const parts = systemWithProvider();

/** @typedef {import('playwright-core').Page} Page */

/** A page of a browser of its own. @param {Parameters<typeof signIn>[2]} who */
async function signedIn(who) {
  const page = await openPage(parts.browser);
  await signIn(page, `${parts.server.url}/`, who);
  await untilConnection(page, 'live');
  return page;
}

/** @param {Page} page */
const again = (page) => page.getByRole('button', { name: 'Sign in again' }).first();

/** Ends the login of a page without a word to its browser. @param {Page} page */
async function endLogin(page) {
  const { origin } = new URL(page.url());
  const login = (await page.context().cookies(origin)).find(({ name }) => name === 'login');
  const ended = await fetch(`${origin}/v1/auth/logout`, { method: 'POST', headers: { cookie: `login=${login?.value}` } });
  assert.equal(ended.status, 200);
}

/** What is kept for the way to the provider and back. @param {Page} page */
const onWay = (page) => page.evaluate(() => sessionStorage.length);

test('signing out ends every page of that login and no other', async () => {
  const page = await signedIn('ann');
  await say(page, 'Said before the end');
  await untilAnswer(page, 'final');
  const tab = await openPage(page.context());
  await tab.goto(await conversationUrl(page));
  await untilConnection(tab, 'live');
  const elsewhere = await signedIn('ann');
  const login = (await page.context().cookies(parts.server.url)).find(({ name }) => name === 'login');

  await page.getByRole('button', { name: 'Account of Ann Tea' }).click();
  await page.getByRole('menuitem', { name: 'Sign out', exact: true }).click();
  await page.waitForURL(`${parts.server.url}/login`);
  await untilConnection(tab, 'signed-out');
  await again(tab).waitFor();
  await tab.getByText('Said before the end').first().waitFor();
  await page.goto(parts.server.url);
  await page.getByRole('link', { name: 'Sign in with' }).waitFor();
  const old = await fetch(`${parts.server.url}/v1/auth/session`, { headers: { cookie: `login=${login?.value}` } });
  assert.equal(old.status, 401);

  await say(elsewhere, 'Still here');
  await answer(elsewhere).getByText('You said: Still here').waitFor();
  await untilConnection(elsewhere, 'live');
  [page, tab, elsewhere].forEach(assertNoFaults);
});

test('signing out everywhere ends the logins of every browser of that person and of nobody else', async () => {
  const page = await signedIn('ann');
  const elsewhere = await signedIn('ann');
  const other = await signedIn('bob');
  await page.setViewportSize({ width: 360, height: 640 });
  await page.getByRole('button', { name: 'Show conversations' }).click();
  await page.getByRole('button', { name: 'Account of Ann Tea' }).focus();
  await page.keyboard.press('Enter');
  await page.keyboard.press('ArrowDown');
  await untilFocused(page.getByRole('menuitem', { name: 'Sign out everywhere' }));
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog', { name: 'Sign out everywhere?' });
  await untilFocused(dialog.getByRole('button', { name: 'Cancel' }));
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press('Enter');
  await dialog.waitFor({ state: 'hidden' });
  await untilFocused(page.getByRole('button', { name: 'Account of Ann Tea' }));
  assert.equal((await page.request.get(`${parts.server.url}/v1/auth/logins`)).status(), 200, 'nothing has ended');

  await page.getByRole('button', { name: 'Account of Ann Tea' }).click();
  await page.getByRole('menuitem', { name: 'Sign out everywhere' }).click();
  await dialog.getByRole('button', { name: 'Sign out everywhere' }).click();
  await page.waitForURL(`${parts.server.url}/login`);
  await untilConnection(elsewhere, 'signed-out');
  await say(other, 'Still here');
  await answer(other).getByText('You said: Still here').waitFor();
  await untilConnection(other, 'live');
  [page, elsewhere, other].forEach(assertNoFaults);
});

test('whoever comes after somebody who signed out is asked who they are, once', async () => {
  const page = await signedIn('ann');
  await page.getByRole('button', { name: 'Account of Ann Tea' }).click();
  await page.getByRole('menuitem', { name: 'Sign out', exact: true }).click();
  await page.waitForURL(`${parts.server.url}/login`);
  // The provider still knows Ann.
  await page.goto(parts.server.url);
  await page.getByRole('link', { name: 'Sign in with' }).click();
  await sayWho(page, 'bob');
  await page.getByRole('button', { name: 'Account of Bob Train' }).waitFor();
  await untilConnection(page, 'live');
  await endLogin(page);
  await untilConnection(page, 'signed-out');
  await again(page).click();
  await untilConnection(page, 'live');
  await page.getByRole('button', { name: 'Account of Bob Train' }).waitFor();
  assertNoFaults(page);
});

test('a login that has ended by itself is begun again where it ended, with the draft', async () => {
  const short = await startWithProvider({ GATEWAY_JWT_TTL_SECONDS: SHORT_SECONDS });
  try {
    const page = await openPage(parts.browser);
    await signIn(page, `${short.server.url}/`, 'ann');
    await say(page, 'Said in time');
    await untilAnswer(page, 'final');
    const address = await conversationUrl(page);
    await composer(page).fill('typed too late\nto be sent');
    await untilConnection(page, 'signed-out');
    assert.deepEqual(await axe(page), []);
    await again(page).click();
    await page.waitForURL(address);
    await untilConnection(page, 'live');
    assert.equal(await composer(page).inputValue(), 'typed too late\nto be sent');
    assert.equal(await onWay(page), 0);
    await page.locator('.said-text').getByText('Said in time').waitFor();
    assertNoFaults(page);
  } finally {
    await short.stop();
  }
});

test('a page without a stream notices the end of its login too, and asks on after the next', async () => {
  const silent = await startWithProvider({ GATEWAY_DISABLE_SSE: 'true' });
  try {
    const page = await openPage(parts.browser);
    await signIn(page, `${silent.server.url}/`, 'ann');
    await say(page, 'Said in silence');
    await untilAnswer(page, 'final');
    const tab = await openPage(page.context());
    await tab.goto(await conversationUrl(page));
    await untilAnswer(tab, 'final');
    await endLogin(page);
    await Promise.all([page, tab].map((one) => untilConnection(one, 'signed-out')));
    await again(page).click();
    await say(page, 'Said in the next');
    await answer(tab).getByText('You said: Said in the next').waitFor();
    await untilConnection(tab, 'closed');
  } finally {
    await silent.stop();
  }
});

test('a message that was refused for want of a login is sent after it', async () => {
  const page = await signedIn('ann');
  await page.context().clearCookies({ name: 'login' });
  await say(page, 'Sent too late');
  await page.getByText('Not sent.').waitFor();
  await untilConnection(page, 'signed-out');
  await composer(page).fill('and a draft');
  const address = await conversationUrl(page);
  await again(page).click();
  await page.waitForURL(address);
  await eventually(() => composer(page).inputValue(), 'and a draft');
  await page.getByRole('button', { name: 'Retry' }).click();
  await answer(page).getByText('You said: Sent too late').waitFor();
  assert.equal(await composer(page).inputValue(), 'and a draft');
});

test('each tab keeps its own draft, and goes on when somebody signs in on another', async () => {
  const one = await signedIn('ann');
  const two = await openPage(one.context());
  await two.goto(parts.server.url);
  await untilConnection(two, 'live');
  await composer(one).fill('typed in the first');
  await composer(two).fill('typed in the second');
  await endLogin(one);
  await Promise.all([one, two].map((page) => untilConnection(page, 'signed-out')));
  await again(one).click();
  await Promise.all([one, two].map((page) => untilConnection(page, 'live')));
  await eventually(() => Promise.all([one, two].map((page) => composer(page).inputValue())), ['typed in the first', 'typed in the second']);
  assert.equal(await two.getByText('You are signed out.').count(), 0);
  await say(two, 'Said in the second');
  await answer(two).getByText('You said: Said in the second').waitFor();
});

test('what stays on the page without a login is lost neither there nor by a reload', async () => {
  const page = await signedIn('ann');
  await composer(page).fill('half a thought');
  await endLogin(page);
  await untilConnection(page, 'signed-out');
  await composer(page).fill('a whole thought');
  await page.reload();
  await page.getByRole('link', { name: 'Sign in with' }).click();
  await untilConnection(page, 'live');
  await eventually(() => composer(page).inputValue(), 'a whole thought');
});

test('what somebody was typing is not shown to somebody else', async () => {
  const page = await signedIn('ann');
  await composer(page).fill('for my eyes only');
  await endLogin(page);
  await untilConnection(page, 'signed-out');
  const tab = await openPage(page.context());
  await page.context().clearCookies();
  await again(page).click();
  await sayWho(page, 'bob');
  await page.getByRole('button', { name: 'Account of Bob Train' }).waitFor();
  await untilConnection(page, 'live');
  assert.equal(await composer(page).inputValue(), '');
  await tab.goto(parts.server.url);
  await untilConnection(tab, 'live');
  assert.equal(await composer(tab).inputValue(), '');
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  assert.ok(!kept.includes('for my eyes only'), kept);
});

test('a page that somebody has left open shows nothing of theirs to the next one', async () => {
  const page = await signedIn('ann');
  await say(page, 'A secret of Ann');
  await untilAnswer(page, 'final');
  const next = await openPage(page.context());
  await page.context().clearCookies();
  await untilLeft(page);
  await signIn(next, `${parts.server.url}/`, 'bob');
  await page.waitForURL(`${parts.server.url}/`);
  await untilConnection(page, 'live');
  await eventually(() => page.getByText('A secret of Ann').count(), 0);
});

/** Has a page notice that its login is gone. @param {Page} page */
async function untilLeft(page) {
  await say(page, 'Anybody there?');
  await untilConnection(page, 'signed-out');
}

test('people sign out by the keyboard alone, and nothing they typed stays in the browser', async () => {
  const page = await signedIn('ann');
  await composer(page).fill('not for the next one');
  const account = page.getByRole('button', { name: 'Account of Ann Tea' });
  await account.focus();
  await page.keyboard.press('Enter');
  await untilFocused(page.getByRole('menuitem', { name: 'Sign out', exact: true }));
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press('Escape');
  await untilFocused(account);
  await page.keyboard.press('Control+k');
  await page.keyboard.type('Sign out');
  await page.getByRole('option', { name: 'Sign out', exact: true }).waitFor();
  await page.keyboard.press('Enter');
  await page.waitForURL(`${parts.server.url}/login`);
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  assert.ok(!kept.includes('not for the next one'), kept);
});

test('a page that could not sign out says so and stays as it is', async () => {
  const page = await signedIn('ann');
  await composer(page).fill('still mine');
  await page.route('**/v1/auth/logout', (route) => route.abort());
  await page.getByRole('button', { name: 'Account of Ann Tea' }).click();
  await page.getByRole('menuitem', { name: 'Sign out', exact: true }).click();
  await page.getByText('Sign out: The server could not be reached.').waitFor();
  assert.equal(await composer(page).inputValue(), 'still mine');
  await page.unroute('**/v1/auth/logout');
  await say(page, 'Still signed in');
  await answer(page).getByText('You said: Still signed in').waitFor();
  await until('nobody was signed out', async () => (await page.request.get(`${parts.server.url}/v1/auth/session`)).ok());
});
