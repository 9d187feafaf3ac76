/** People sign in at a provider, from the page that says so. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { answer, assertNoFaults, axe, openPage, say, screenshot, untilAnswer, untilConnection, untilFocused } from '../support/browser.js';
import { cancel, sayWho, signIn } from '../support/provider.js';
import { freePort } from '../support/server.js';
import { startWithProvider, systemWithProvider } from '../support/suite.js';

const parts = systemWithProvider({ GATEWAY_CSRF_ENABLED: 'true' });

/** @typedef {import('playwright-core').Page} Page */

/** @param {Page} page */
const link = (page) => page.getByRole('link', { name: 'Sign in with Google' });

/** What the page says went wrong. @param {Page} page @param {string | RegExp} reason */
const untilTold = (page, reason) => page.getByRole('alert').filter({ hasText: reason }).waitFor();

test('whoever is not signed in is asked to, and then is where they wanted to be', async () => {
  const wanted = `${parts.server.url}/s/${randomUUID()}`;
  const page = await openPage(parts.browser);
  await page.goto(wanted);
  await link(page).waitFor();
  assert.equal(new URL(page.url()).pathname, '/login');
  await link(page).click();
  await sayWho(page, 'ann');
  await page.waitForURL(wanted);
  await untilConnection(page, 'live');
  await page.getByRole('button', { name: 'Account of Ann Tea' }).waitFor();
  await page.goto(`${parts.server.url}/login`);
  await page.waitForURL(`${parts.server.url}/`);
  assertNoFaults(page);
});

test('whoever is signed in talks to the agent, by a cookie that no script reads', async () => {
  const page = await openPage(parts.browser);
  await signIn(page, `${parts.server.url}/`, 'ann');
  await say(page, 'Do you know me?');
  await answer(page).getByText('You said: Do you know me?').waitFor();
  await untilAnswer(page, 'final');

  const cookies = await page.context().cookies(parts.server.url);
  const login = cookies.find(({ name }) => name === 'login');
  assert.ok(login, `there is no login among ${cookies.map(({ name }) => name)}`);
  assert.deepEqual({ httpOnly: login.httpOnly, sameSite: login.sameSite, path: login.path }, { httpOnly: true, sameSite: 'Lax', path: '/' });
  const read = await page.evaluate(() => JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }]));
  assert.ok(!read.includes(login.value), 'a script can read the login');
  assertNoFaults(page);
});

test('signing in again ends the login that the browser had', async () => {
  const page = await openPage(parts.browser);
  const kept = async () => (await page.context().cookies(parts.server.url)).find(({ name }) => name === 'login')?.value;
  const status = async (/** @type {string | undefined} */ login) => (await fetch(`${parts.server.url}/v1/auth/session`, { headers: { cookie: `login=${login}` } })).status;
  await signIn(page, `${parts.server.url}/`, 'ann');
  const before = await kept();
  assert.equal(await status(before), 200);
  await page.goto(`${parts.server.url}/v1/auth/login`);
  await page.waitForURL(`${parts.server.url}/`);
  const after = await kept();
  assert.notEqual(after, before);
  assert.deepEqual([await status(before), await status(after)], [401, 200]);
});

test('what the provider gives for somebody stays in the server', async () => {
  const page = await openPage(parts.browser);
  /** @type {Promise<string>[]} */
  const answers = [];
  page.on('response', (response) => {
    const read = async () => {
      const headers = await response.allHeaders();
      const isStream = headers['content-type']?.startsWith('text/event-stream');
      return JSON.stringify(headers) + (isStream ? '' : await response.text().catch(() => ''));
    };
    answers.push(read());
  });
  await signIn(page, `${parts.server.url}/`, 'ann');
  await page.getByRole('button', { name: 'Account of Ann Tea' }).waitFor();
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  const cookies = await page.context().cookies(parts.server.url);
  assert.deepEqual(cookies.map(({ name }) => name).toSorted(), ['csrf_token', 'login']);
  const told = [...await Promise.all(answers), kept, JSON.stringify(cookies)].join('\n');
  const issued = parts.provider.issued.slice(-2);
  assert.deepEqual(issued.map((token) => token.length > 20 && !told.includes(token)), [true, true]);
  assert.ok(told.includes('Ann Tea'), 'the answers were not read');
});

/** @param {Page} page @param {string} name */
const cookie = async (page, name) => (await page.context().cookies(parts.server.url)).find((one) => one.name === name);

/** What a message is answered with that shows a token, or none. @param {Page} page @param {string | null} token */
const forged = (page, token) => page.evaluate(async (shown) => {
  const headers = { 'Content-Type': 'application/json', ...(shown === null ? {} : { 'X-CSRF-Token': shown }) };
  const answered = await fetch('/v1/session/message', { method: 'POST', headers, body: JSON.stringify({ message: 'forged' }) });
  return `${answered.status} ${(await answered.json()).code ?? ''}`.trim();
}, token);

test('what changes something shows a token of this login, and a page that has lost it gets another', async () => {
  const page = await openPage(parts.browser);
  await signIn(page, `${parts.server.url}/`, 'ann');
  const first = await cookie(page, 'csrf_token');
  assert.deepEqual({ httpOnly: first?.httpOnly, sameSite: first?.sameSite, path: first?.path }, { httpOnly: false, sameSite: 'Lax', path: '/' });
  assert.equal(await forged(page, null), '403 csrf-token-invalid');
  assert.equal(await forged(page, 'made-up'), '403 csrf-token-invalid');
  await page.context().addCookies([{ name: 'csrf_token', value: 'planted', url: parts.server.url }]);
  assert.equal(await forged(page, 'planted'), '403 csrf-token-invalid');
  await say(page, 'Said in spite of that');
  await answer(page).getByText('You said: Said in spite of that').waitFor();
  const second = await cookie(page, 'csrf_token');
  assert.ok(second && second.value !== 'planted' && second.value !== first?.value);
  assert.equal(await forged(page, second.value), '200');
  await page.context().clearCookies({ name: 'csrf_token' });
  await say(page, 'Said without a cookie');
  await answer(page).getByText('You said: Said without a cookie').waitFor();
  assertNoFaults(page);
});

test('the token goes with the login: another one has another, and who signs out has none', async () => {
  const page = await openPage(parts.browser);
  await signIn(page, `${parts.server.url}/`, 'ann');
  const anns = await cookie(page, 'csrf_token');
  await page.context().clearCookies({ name: 'login' });
  await page.context().clearCookies({ domain: 'localhost' });
  const tab = await openPage(page.context());
  await signIn(tab, `${parts.server.url}/`, 'bob');
  await untilConnection(tab, 'live');
  const bobs = await cookie(tab, 'csrf_token');
  assert.ok(anns && bobs && anns.value !== bobs.value);
  assert.equal(await forged(tab, anns.value), '403 csrf-token-invalid');
  await say(tab, 'Said by Bob');
  await answer(tab).getByText('You said: Said by Bob').waitFor();
  await tab.getByRole('button', { name: 'Account of Bob Train' }).click();
  await tab.getByRole('menuitem', { name: 'Sign out', exact: true }).click();
  await tab.waitForURL(`${parts.server.url}/login`);
  assert.deepEqual([await cookie(tab, 'csrf_token'), await cookie(tab, 'login')], [undefined, undefined]);
});

for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
  test(`whoever may not sign in here is told, and may be somebody else the next time, in ${colorScheme} colours`, async () => {
    const few = await startWithProvider({ SA01_OIDC__TENANTS: 'tea' });
    try {
      const page = await openPage(parts.browser, { colorScheme, reducedMotion: 'reduce', viewport: { width: 360, height: 640 } });
      await page.goto(few.server.url);
      await link(page).click();
      await sayWho(page, 'bob');
      await untilTold(page, 'Your organisation may not sign in here');
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
      assert.deepEqual(await axe(page), []);
      await screenshot(page, `login-not-allowed-${colorScheme}`);
      await link(page).click();
      await sayWho(page, 'ann');
      await page.waitForURL(`${few.server.url}/`);
      await untilConnection(page, 'live');
      assertNoFaults(page);
    } finally {
      await few.stop();
    }
  });

  test(`whoever comes while the provider is away is told, in ${colorScheme} colours`, async () => {
    const alone = await startWithProvider({ OIDC_ISSUER: `http://localhost:${await freePort()}` });
    try {
      const page = await openPage(parts.browser, { colorScheme, reducedMotion: 'reduce', viewport: { width: 360, height: 640 } });
      const wanted = `/s/${randomUUID()}`;
      await page.goto(alone.server.url + wanted);
      await link(page).click();
      await untilTold(page, 'The sign-in service cannot be reached');
      assert.equal(new URL(page.url()).searchParams.get('next'), wanted);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
      assert.deepEqual(await axe(page), []);
      await screenshot(page, `login-unavailable-${colorScheme}`);
      assertNoFaults(page);
    } finally {
      await alone.stop();
    }
  });
}

test('whoever says no at the provider is told, and can still go where they wanted to', async () => {
  const wanted = `${parts.server.url}/s/${randomUUID()}`;
  const page = await openPage(parts.browser);
  await page.goto(wanted);
  await link(page).click();
  await cancel(page);
  await untilTold(page, 'You were not signed in');
  assert.deepEqual(await axe(page), []);
  await link(page).click();
  await sayWho(page, 'bob');
  await page.waitForURL(wanted);
  assertNoFaults(page);
});

test('whoever the provider knows too little about is told', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await link(page).click();
  await sayWho(page, 'eve');
  await untilTold(page, 'did not say which organisation');
  await page.goto(parts.server.url);
  await link(page).waitFor();
});

test('an answer that is none to this attempt signs nobody in', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await link(page).click();
  await page.getByRole('textbox', { name: 'Who are you?' }).waitFor();
  await page.goto(`${parts.server.url}/v1/auth/callback?code=made-up&state=made-up`);
  await untilTold(page, 'took too long or began in another browser');
  assert.equal((await page.request.get(`${parts.server.url}/v1/auth/session`)).status(), 401);
});

test('nobody is sent to another site, and nothing that an address says is shown', async () => {
  const page = await openPage(parts.browser);
  for (const next of [
    '//evil.example', 'https://evil.example/', '/\\evil.example', '\\\\evil.example', '/s/../v1/auth/logout', 'javascript:alert(1)', '%2f%2fevil.example',
    '/%2f/evil.example', '/\t/evil.example', '\t//evil.example', '/\n/evil.example', '///evil.example', '/@evil.example', '//ada:secret@evil.example', 'http:evil.example',
    `/s/${randomUUID()}@evil.example`, `/s/${randomUUID()}/..//evil.example`,
  ]) {
    await page.goto(`${parts.server.url}/login?${new URLSearchParams({ next, problem: next })}`);
    assert.equal(await link(page).getAttribute('href'), '/v1/auth/login', next);
    assert.equal(await page.getByRole('alert').textContent(), '', next);
  }
  for (const problem of ['constructor', '__proto__', '<b>evil</b>']) {
    await page.goto(`${parts.server.url}/login?${new URLSearchParams({ problem })}`);
    await link(page).waitFor();
    assert.equal(await page.getByRole('alert').textContent(), '', problem);
  }
  await page.goto(`${parts.server.url}/v1/auth/login?${new URLSearchParams({ next: '//evil.example' })}`);
  await sayWho(page, 'ann');
  await page.waitForURL(`${parts.server.url}/`);
  await untilConnection(page, 'live');
  assertNoFaults(page);
});

test('where signing in is not set up the page says so', async () => {
  const page = await openPage(parts.browser);
  for (const [required, words] of /** @type {const} */ ([[true, 'Requests need a token'], [false, 'nobody has to']])) {
    await page.route('**/ui/config.json', (route) => route.fulfill({ json: { sign_in: { enabled: false, provider: 'google' }, features: { require_auth: required } } }));
    await page.goto(`${parts.server.url}/login`);
    await page.getByText(words).waitFor();
    assert.equal(await link(page).count(), 0);
    assert.deepEqual(await axe(page), []);
  }
});

for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
  test(`axe finds nothing on the page for signing in, in ${colorScheme} colours`, async () => {
    const page = await openPage(parts.browser, { colorScheme, reducedMotion: 'reduce' });
    await page.goto(parts.server.url);
    await link(page).waitFor();
    assert.deepEqual(await axe(page), []);
    await screenshot(page, `login-${colorScheme}`);
    await page.goto(`${parts.server.url}/login?problem=id-token-invalid`);
    await untilTold(page, 'could not be trusted');
    assert.deepEqual(await axe(page), []);
    assertNoFaults(page);
  });
}

test('people sign in by the keyboard alone, at 360 px', async () => {
  const page = await openPage(parts.browser, { viewport: { width: 360, height: 640 } });
  await page.goto(`${parts.server.url}/login?problem=id-token-invalid`);
  await untilTold(page, 'could not be trusted');
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press('Tab');
  await untilFocused(link(page));
  await page.keyboard.press('Enter');
  await sayWho(page, 'ann');
  await untilConnection(page, 'live');
});
