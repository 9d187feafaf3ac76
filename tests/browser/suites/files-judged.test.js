/** Files that the server keeps from people, and files with names that mean harm. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertNoFaults, composer, conversationUrl, launch, openPage, say, untilAnswer, untilConnection, untilFocused } from '../support/browser.js';
import { Clamd, EICAR } from '../support/clamd.js';
import { eventually } from '../support/eventually.js';
import { attached, choose, drag, listen, note, reason, row, rows, untilAccepted } from '../support/files.js';
import { freePort, Server } from '../support/server.js';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Clamd} */
let clamd;
/** @type {Server} */
let server;
before(async () => {
  [browser, clamd] = await Promise.all([launch(), Clamd.start()]);
  server = await Server.start(clamd.env);
});
after(async () => {
  await browser?.close();
  await server?.stop();
  await clamd?.stop();
});

/** @param {Server} [at] */
async function open(at = server) {
  const page = await openPage(browser);
  await page.goto(at.url);
  await untilFocused(composer(page));
  return page;
}

test('an infected file is quarantined, said to be so once, and no message can refer to it', async () => {
  const page = await open();
  const said = await listen(page);
  await choose(page, note('harmless.txt'), note('report.txt', EICAR));
  await untilAccepted(page, 'harmless.txt');
  const verdict = 'Quarantined: something harmful was found in it. It will not be sent.';
  await row(page, 'report.txt').getByText(verdict).waitFor();
  assert.equal(await page.getByRole('button', { name: 'Retry report.txt' }).count(), 0);
  await say(page, 'Read both');
  await reason(page, 'Retry or remove what was not taken, then send.').waitFor();
  await page.getByRole('button', { name: 'Remove report.txt' }).click();
  await composer(page).press('Enter');
  await untilAnswer(page, 'final');
  await attached(page).getByText('harmless.txt').waitFor();
  assert.equal(await attached(page).count(), 1);
  const heard = await said();
  assert.equal(heard.filter((line) => line === `report.txt: ${verdict}`).length, 1, `${heard}`);
  await page.reload();
  await attached(page).getByText('harmless.txt').waitFor();
  assert.equal(await rows(page).count(), 0, 'what is quarantined is not in the draft');
});

test('a file that could not be checked may be tried again', async () => {
  const unchecked = await Server.start({ CLAMAV_ENABLED: 'true', CLAMAV_HOST: '127.0.0.1', CLAMAV_PORT: String(await freePort()) });
  try {
    const page = await open(unchecked);
    await choose(page, note('unseen.txt'));
    const verdict = row(page, 'unseen.txt').getByText('Quarantined: it could not be checked. It will not be sent.');
    await verdict.waitFor();
    const again = page.waitForResponse('**/v1/uploads/tus');
    await page.getByRole('button', { name: 'Retry unseen.txt' }).click();
    await again;
    await verdict.waitFor();
  } finally {
    await unchecked.stop();
  }
});

test('a file that was deleted or quarantined since says so in the transcript', async () => {
  const page = await open();
  const names = ['here.txt', 'gone.txt', 'harmful.txt', 'hidden.txt'];
  await choose(page, ...names.map((name) => note(name)));
  for (const name of names) await untilAccepted(page, name);
  await say(page, 'Four of them');
  await untilAnswer(page, 'final');
  const ids = await attached(page).getByRole('link').evaluateAll((links) => links.map((link) => link.getAttribute('href') ?? ''));
  const fates = new Map([[ids[1], [410, 'attachment-gone']], [ids[2], [403, 'attachment-quarantined']], [ids[3], [404, 'attachment-unknown']]]);
  await page.route('**/v1/attachments/*', (route) => {
    const fate = fates.get(new URL(route.request().url()).pathname);
    if (!fate) return route.fallback();
    const [status, code] = fate;
    return route.fulfill({ status: Number(status), headers: { 'Content-Type': 'application/problem+json' }, json: { code, title: 'no' } });
  });
  await page.reload();
  await eventually(() => attached(page).allTextContents(), [
    'here.txtText · 20 bytes', 'This file was deleted.', 'This file is in quarantine and cannot be downloaded.', 'This file is not there for you.',
  ]);
  assert.equal(await attached(page).getByRole('link').count(), 1);
});

test('what could not be learnt of a file is asked for again when the server is back', async () => {
  const page = await open();
  await choose(page, note('known.txt'));
  await untilAccepted(page, 'known.txt');
  await say(page, 'One of them');
  await untilAnswer(page, 'final');
  await page.route('**/v1/attachments/*', (route) => route.fulfill({ status: 503, json: { code: 'unavailable' } }), { times: 1 });
  await page.reload();
  await attached(page).getByText('Nothing could be learnt of this file.').waitFor();
  await page.context().setOffline(true);
  await untilConnection(page, 'offline');
  await page.context().setOffline(false);
  await attached(page).getByRole('link', { name: 'Download known.txt' }).waitFor();
});

const HOSTILE = [
  '\u202egnp.exe', '<img src=x onerror="window.pwned = 1">.txt', `${'long '.repeat(819)}.txt`, '"; filename="other.txt', '../../etc/passwd',
  '\u0645\u0644\u0641 \u0637\u0648\u064a\u0644 \u062c\u062f\u0627 \u0644\u0644\u063a\u0627\u064a\u0629 \u0648\u0623\u0643\u062b\u0631.txt', 'javascript:alert(1)',
  'a\u0000b\r\nX-Injected: yes.txt', '\u{1f9d1}\u200d\u{1f692}'.repeat(40),
];

test('hostile names are text, turn nothing around, and break no layout, before and after they are sent', async () => {
  const page = await open();
  await page.setViewportSize({ width: 360, height: 740 });
  const check = async (/** @type {import('playwright-core').Locator} */ shown) => {
    await eventually(() => shown.count(), HOSTILE.length);
    const found = await page.evaluate(() => ({
      pwned: /** @type {any} */ (window).pwned ?? null,
      elements: document.querySelectorAll('.file-name :not(bdi)').length,
      turned: /[\u202a-\u202e\u2066-\u2069]/.test(document.body.innerText),
      width: document.documentElement.scrollWidth,
      wide: [...document.querySelectorAll('soma-file, soma-attachment')].filter((one) => one.getBoundingClientRect().right > innerWidth).length,
      unsafe: [...document.querySelectorAll('a.file-name')].filter((link) => !/^\/v1\/attachments\/[0-9a-f-]{36}$/.test(link.getAttribute('href') ?? '')).length,
    }));
    assert.deepEqual(found, { pwned: null, elements: 0, turned: false, width: 360, wide: 0, unsafe: 0 });
  };
  await drag(page, '.scroller', 'drop', ...HOSTILE.map((name) => note(name, `The content of it: ${[...name].length}`)));
  await check(rows(page));
  await eventually(() => rows(page).evaluateAll((all) => all.filter((one) => one.dataset.phase !== 'clean').map((one) => one.textContent)), []);
  await check(rows(page));
  await say(page, 'Odd names');
  await untilAnswer(page, 'final');
  // Only those that somebody looks at are asked for.
  const lookAtAll = async () => {
    await eventually(() => attached(page).count(), HOSTILE.length);
    for (const one of await attached(page).all()) {
      await one.scrollIntoViewIfNeeded();
      await one.getByRole('link').waitFor();
    }
    await check(attached(page));
  };
  await lookAtAll();
  await page.goto(await conversationUrl(page));
  await lookAtAll();
  assertNoFaults(page);
});
