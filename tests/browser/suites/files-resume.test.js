/** Files that were cut off on their way: by a reload, a server that is killed, a network that is gone. They go on where they stopped. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { assertNoFaults, axe, composer, conversationUrl, launch, openPage, say, screenshot, untilAnswer, untilConnection, untilFocused } from '../support/browser.js';
import { Clamd } from '../support/clamd.js';
import { eventually, until } from '../support/eventually.js';
import { attached, choose, listen, note, reason, row, rows, shelf, slow, untilAccepted } from '../support/files.js';
import { Server } from '../support/server.js';

const BYTES = 20_000_000;
/** A second of this is less than the whole, and more than nothing. */
const SLOW = 1_500_000;

/** @typedef {import('playwright-core').Page} Page */

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Clamd} */
let clamd;
/** @type {Server} */
let server;
before(async () => {
  [browser, clamd] = await Promise.all([launch(), Clamd.start()]);
  server = await Server.start({ ...clamd.env, GATEWAY_UPLOAD_MAX_MB: '32', SA01_UPLOADS__INLINE_MAX_MB: '32' });
});
after(async () => {
  await browser?.close();
  await server?.stop();
  await clamd?.stop();
});

/** @param {import('playwright-core').BrowserContextOptions} [options] */
async function open(options) {
  const page = await openPage(browser, options);
  await page.goto(server.url);
  await untilConnection(page, 'live');
  return page;
}

/** A file of which no two parts are the same. @param {string} name */
const big = (name, bytes = BYTES) => ({ name, mimeType: 'application/octet-stream', buffer: randomBytes(bytes) });

/** @param {Buffer} bytes */
const sum = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** What pages ask of the server about uploads from now on, and where the first upload is. @param {...Page} pages */
function asked(...pages) {
  const seen = { methods: /** @type {string[]} */ ([]), offsets: /** @type {number[]} */ ([]), lengths: /** @type {number[]} */ ([]), place: '' };
  for (const page of pages) {
    page.on('request', (request) => {
      if (!request.url().includes('/v1/uploads/tus')) return;
      seen.methods.push(request.method());
      if (request.method() === 'POST') seen.lengths.push(Number(request.headers()['upload-length']));
      if (request.method() === 'PATCH') seen.offsets.push(Number(request.headers()['upload-offset']));
    });
    page.on('response', async (response) => {
      const location = (await response.allHeaders().catch(() => ({ location: '' }))).location;
      if (response.url().endsWith('/v1/uploads/tus') && location) seen.place ||= location;
    });
  }
  return seen;
}

/** How much of an upload the server has; -1 if it has none. @param {string} place @returns {Promise<number>} */
async function arrived(place) {
  const reply = await fetch(`${server.url}${place}`).catch(() => null);
  return reply?.ok ? Number(reply.headers.get('Upload-Offset')) : -1;
}

/** Begins to send a file, and waits until some of it is there. @param {Page} page @param {{name: string, mimeType: string, buffer: Buffer}} file */
async function begin(page, file) {
  const seen = asked(page);
  await slow(page, SLOW);
  await choose(page, file);
  await until('some of it is there', async () => seen.place !== '' && (await arrived(seen.place)) > 1_000_000);
  return seen;
}

/** @param {ReturnType<typeof asked>} seen */
function assertWentOn({ methods, offsets }) {
  assert.equal(methods.filter((method) => method === 'POST').length, 1, `it did not begin anew: ${methods}`);
  assert.equal(offsets[0], 0);
  assert.ok(offsets.length > 1 && offsets.slice(1).every((offset) => offset > 0), `${offsets}`);
}

/** Sends the message, and checks what came of its file. @param {Page} page @param {{name: string, buffer: Buffer}} file */
async function assertKept(page, { name, buffer }) {
  await say(page, 'Take this');
  await untilAnswer(page, 'final');
  const place = await attached(page).getByRole('link', { name: `Download ${name}` }).getAttribute('href');
  const kept = Buffer.from(await (await fetch(`${server.url}${place}`)).arrayBuffer());
  assert.equal(sum(kept), sum(buffer));
  await eventually(() => shelf(page), []);
}

test('a file goes on after a reload where it stopped, without a question, and is said to', async () => {
  const page = await open();
  const file = big('tape.bin');
  const seen = await begin(page, file);
  await choose(page, note('beside.txt'));
  await page.reload();
  await untilConnection(page, 'live');
  const said = await listen(page);
  await row(page, 'tape.bin').getByRole('progressbar').waitFor();
  await slow(page, 0);
  await untilAccepted(page, 'tape.bin');
  await untilAccepted(page, 'beside.txt');
  assert.deepEqual(await rows(page).locator('.file-name').allTextContents(), ['tape.bin', 'beside.txt']);
  assert.ok(seen.offsets.some((offset) => offset > 1_000_000), `${seen.offsets}`);
  assert.equal(seen.lengths.filter((length) => length === BYTES).length, 1, 'it did not begin anew');
  assert.ok((await said()).includes('tape.bin: accepted.'));
  await assertKept(page, file);
  assertNoFaults(page);
});

test('files that had to wait for the others go on after a reload, in their order', async () => {
  const page = await open();
  await slow(page, SLOW);
  const names = [1, 2, 3, 4, 5].map((number) => `part ${number}.bin`);
  await choose(page, ...names.map((name) => big(name, 4_000_000)));
  await row(page, names[4]).getByText('Waits for the others').waitFor();
  await eventually(() => shelf(page).then((kept) => kept.sort()), names);
  await page.reload();
  await slow(page, 0);
  for (const name of names) await untilAccepted(page, name);
  assert.deepEqual(await rows(page).locator('.file-name').allTextContents(), names);
});

test('what goes on after a reload is announced', async () => {
  const page = await open();
  await page.addInitScript(() => {
    const said = /** @type {string[]} */ ([]);
    Object.assign(window, { said });
    new MutationObserver(() => {
      const line = document.querySelector('soma-announcer')?.textContent;
      if (line && said.at(-1) !== line) said.push(line);
    }).observe(document, { childList: true, characterData: true, subtree: true });
  });
  await begin(page, big('heard.bin'));
  await page.reload();
  await untilConnection(page, 'live');
  await until('it is said', () => page.evaluate(() => /** @type {any} */ (window).said.includes('heard.bin goes on where the page was left.')));
  await slow(page, 0);
  await untilAccepted(page, 'heard.bin');
});

for (const [name, options] of /** @type {[string, import('playwright-core').BrowserContextOptions][]} */ ([
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
])) {
  test(`a file that goes on after a reload, and one that is stopped, have room at 360 px, ${name}`, async () => {
    const page = await open({ ...options, viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, reducedMotion: 'reduce' });
    await begin(page, big('Recording of the whole meeting.bin'));
    await page.reload();
    await row(page, 'Recording').getByText(/^\d+ % of 19 MB$/).waitFor();
    assert.deepEqual(await axe(page), []);
    await screenshot(page, `files-resumed-360-${name}`);
    assert.equal(await page.getByRole('list', { name: 'Examples to start from' }).count(), 0, 'nothing else is to be begun with');
    await page.context().setOffline(true);
    await row(page, 'Recording').getByText('It goes on by itself.').waitFor();
    assert.deepEqual(await axe(page), []);
    await screenshot(page, `files-stopped-360-${name}`);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    await page.context().setOffline(false);
    await slow(page, 0);
    await untilAccepted(page, 'Recording');
    await page.context().close();
  });
}

test('a file goes on where it stopped when the server was killed', async () => {
  const page = await open();
  const file = big('survivor.bin');
  const seen = await begin(page, file);
  await server.kill();
  await row(page, 'survivor.bin').getByText('It goes on by itself.').waitFor();
  await slow(page, 0);
  await server.again();
  await untilAccepted(page, 'survivor.bin');
  assertWentOn(seen);
  await assertKept(page, file);
});

test('a file goes on at once when the network is back', async () => {
  const page = await open();
  const file = big('tunnel.bin');
  const seen = await begin(page, file);
  await page.context().setOffline(true);
  await row(page, 'tunnel.bin').getByText('It goes on by itself.').waitFor();
  await page.context().setOffline(false);
  await slow(page, 0);
  await untilAccepted(page, 'tunnel.bin');
  assertWentOn(seen);
  await assertKept(page, file);
});

test('a request in which nothing moves is given up, and the file goes on where it is', async () => {
  const page = await open();
  await page.clock.install();
  const seen = asked(page);
  let isStuck = true;
  await page.route('**/v1/uploads/tus/*', (route) => (isStuck && route.request().method() === 'PATCH' ? undefined : route.fallback()));
  await choose(page, note('stuck.txt'));
  await until('it is on its way', () => seen.methods.includes('PATCH'));
  await page.clock.fastForward(59_000);
  assert.deepEqual(seen.methods, ['POST', 'PATCH']);
  isStuck = false;
  await page.clock.fastForward(2_000);
  await row(page, 'stuck.txt').getByText(/Stopped|Accepted/).waitFor();
  await page.clock.fastForward(1_000);
  await untilAccepted(page, 'stuck.txt');
  assert.deepEqual(seen.methods.slice(0, 3), ['POST', 'PATCH', 'GET'], `${seen.methods}`);
  assert.equal(seen.methods.filter((method) => method === 'POST').length, 1);
});

for (const [status, code] of /** @type {[number, string][]} */ ([[409, 'upload-conflict'], [423, 'upload-locked'], [460, 'checksum-mismatch'], [503, 'unavailable']])) {
  test(`a piece that is answered with ${status} is followed by a look at where the upload is, and goes on`, async () => {
    const page = await open();
    const seen = asked(page);
    await page.route('**/v1/uploads/tus/*', (route) => (
      route.request().method() === 'PATCH' ? route.fulfill({ status, headers: { 'Retry-After': '1' }, json: { code, title: 'Not now' } }) : route.fallback()
    ), { times: 1 });
    await choose(page, note('told.txt'));
    await untilAccepted(page, 'told.txt');
    assert.deepEqual(seen.methods, ['POST', 'PATCH', 'GET', 'PATCH', 'GET']);
  });
}

test('what is refused for good is not tried again, and not after a reload either', async () => {
  const page = await open();
  const seen = asked(page);
  await page.route('**/v1/uploads/tus/*', (route) => (
    route.request().method() === 'PATCH' ? route.fulfill({ status: 410, json: { code: 'session-deleted', title: 'Gone' } }) : route.fallback()
  ));
  await choose(page, note('late.txt'));
  await row(page, 'late.txt').getByText('The conversation was deleted.').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Retry late.txt' }).count(), 0);
  await eventually(() => arrived(seen.place), -1);
  await eventually(() => shelf(page), []);
  await page.reload();
  await untilConnection(page, 'live');
  await untilFocused(composer(page));
  assert.equal(await rows(page).count(), 0);
});

test('what the server has given up meanwhile begins anew, once', async () => {
  const page = await open();
  const file = big('forgotten.bin', 6_000_000);
  const seen = await begin(page, file);
  await page.context().setOffline(true);
  await row(page, 'forgotten.bin').getByText('It goes on by itself.').waitFor();
  assert.equal((await fetch(`${server.url}${seen.place}`, { method: 'DELETE' })).status, 204);
  await page.context().setOffline(false);
  await slow(page, 0);
  await untilAccepted(page, 'forgotten.bin');
  assert.equal(seen.methods.filter((method) => method === 'POST').length, 2);
  await assertKept(page, file);
});

test('a file that is taken out leaves nothing on the server, on its way as well as there', async () => {
  const page = await open();
  const seen = await begin(page, big('regretted.bin'));
  await page.getByRole('button', { name: 'Cancel regretted.bin' }).click();
  await eventually(() => rows(page).count(), 0);
  await eventually(() => arrived(seen.place), -1);
  await eventually(() => shelf(page), []);
  await slow(page, 0);
  await choose(page, note('whole.txt'));
  await untilAccepted(page, 'whole.txt');
  const kept = async () => (await (await fetch(`${server.url}/v1/attachments?limit=1`)).json())[0];
  const { id, filename } = await kept();
  assert.equal(filename, 'whole.txt');
  await page.getByRole('button', { name: 'Remove whole.txt' }).click();
  await eventually(async () => (await fetch(`${server.url}/v1/attachments/${id}`)).status, 410);
});

test('a file of a draft that another page has sent stays when it is taken out here', async () => {
  const page = await open();
  await choose(page, note('shared.txt'));
  await untilAccepted(page, 'shared.txt');
  const other = await openPage(page.context());
  await other.goto(await conversationUrl(page));
  await untilAccepted(other, 'shared.txt');
  await say(page, 'It is sent');
  await untilAnswer(page, 'final');
  const place = await attached(page).getByRole('link').getAttribute('href');
  const seen = other.waitForEvent('request', { predicate: (request) => request.method() === 'DELETE', timeout: 1_000 }).catch(() => null);
  await other.getByRole('button', { name: 'Remove shared.txt' }).click();
  await eventually(() => rows(other).count(), 0);
  assert.equal(await seen, null);
  assert.equal((await fetch(`${server.url}${place}`)).status, 200);
});

test('of two pages only one goes on with a file, and the other takes over when it is gone', async () => {
  const page = await open();
  const file = big('one of two.bin');
  const seen = await begin(page, file);
  const other = await openPage(page.context());
  const second = asked(other);
  await other.goto(await conversationUrl(page));
  await untilConnection(other, 'live');
  await untilFocused(composer(other));
  assert.equal(await rows(other).count(), 0);
  assert.equal(second.methods.length, 0);
  await page.close();
  await until('who comes to the other page finds it there', async () => {
    await other.evaluate(() => window.dispatchEvent(new Event('focus')));
    return (await rows(other).count()) === 1;
  });
  await untilAccepted(other, 'one of two.bin');
  assert.equal(seen.methods.filter((method) => method === 'POST').length, 1);
  assert.ok(!second.methods.includes('POST') && second.offsets.length > 0 && second.offsets.every((offset) => offset > 0), `${second.methods} ${second.offsets}`);
  await assertKept(other, file);
});

for (const missing of ['indexedDB', 'locks']) {
  test(`without ${missing} files are sent as ever, and a page that would lose one asks before it is closed`, async () => {
    const page = await openPage(browser);
    await page.addInitScript((what) => {
      const [of, name] = what === 'locks' ? [Navigator.prototype, 'locks'] : [window, 'indexedDB'];
      Object.defineProperty(of, name, { get: () => undefined });
    }, missing);
    await page.goto(server.url);
    await untilConnection(page, 'live');
    await begin(page, big('unkept.bin'));
    const asked = page.waitForEvent('dialog');
    await page.close({ runBeforeUnload: true });
    const dialog = await asked;
    assert.equal(dialog.type(), 'beforeunload');
    await dialog.dismiss();
    await slow(page, 0);
    await untilAccepted(page, 'unkept.bin');
    assertNoFaults(page);
  });
}

test('what nobody came back to for a day is dropped, here and on the server', async () => {
  const page = await open();
  const seen = await begin(page, big('old.bin'));
  await page.context().addInitScript(() => {
    const now = Date.now.bind(Date);
    Date.now = () => now() + 25 * 3600 * 1000;
  });
  const next = await openPage(page.context());
  const address = await conversationUrl(page);
  await page.close();
  await next.goto(address);
  await untilConnection(next, 'live');
  await eventually(() => shelf(next), []);
  await eventually(() => arrived(seen.place), -1);
  assert.equal(await rows(next).count(), 0);
});

test('a message that waits for its file goes although its writer looks at another conversation, and counts files that come meanwhile', async () => {
  const page = await open();
  await say(page, 'The other one');
  await untilAnswer(page, 'final');
  const other = await conversationUrl(page);
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await begin(page, big('awaited.bin'));
  const own = await conversationUrl(page);
  await say(page, 'Read the long one');
  await reason(page, 'Sends when the file is there.').waitFor();
  await choose(page, big('added.bin'));
  await reason(page, 'Sends when 2 files are there.').waitFor();
  await page.getByRole('link', { name: 'The other one' }).click();
  await page.waitForURL(other);
  await eventually(() => rows(page).count(), 0);
  await composer(page).fill('typed elsewhere');
  // The way to a new conversation is the way back to what waits, although none of its files is there yet.
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await page.waitForURL(own);
  await reason(page, 'Sends when 2 files are there.').waitFor();
  await page.getByRole('link', { name: 'The other one' }).click();
  await page.waitForURL(other);
  await slow(page, 0);
  await page.getByRole('link', { name: 'Read the long one' }).waitFor();
  assert.equal(await composer(page).inputValue(), 'typed elsewhere');
  assert.equal(page.url(), other);
  await page.getByRole('link', { name: 'Read the long one' }).click();
  await page.waitForURL(own);
  await eventually(() => attached(page).count(), 2);
  await untilAnswer(page, 'final');
  assert.equal(await page.locator('.said-text').count(), 1);
  assert.equal(await composer(page).inputValue(), '');
});
