/** Files in light and dark, wide and narrow, by keyboard, and checked by axe-core. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertNoFaults, axe, composer, openPage, say, screenshot, untilAnswer, untilConnection, untilFocused } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { attached, choose, chooseIn, drag, long, note, pdf, picture, row, rows, slow, untilAccepted } from '../support/files.js';
import { system } from '../support/suite.js';

const parts = system({ GATEWAY_UPLOAD_MAX_MB: '4' });

const LOOKS = /** @type {[string, import('playwright-core').BrowserContextOptions][]} */ ([
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['360', { colorScheme: 'light', viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true }],
]);

/** What the server says of a file in which something was found. */
const INFECTED = {
  id: '0190a3f0-0000-7000-8000-00000000000a', filename: 'invoice.exe', mime_type: 'application/x-msdownload', size: 120_000,
  status: 'quarantined', quarantine_reason: 'infected', download_url: '/v1/attachments/0190a3f0-0000-7000-8000-00000000000a',
};

for (const [name, options] of LOOKS) {
  test(`in the look ${name} files have room, and axe finds nothing`, async () => {
    const page = await openPage(parts.browser, { ...options, reducedMotion: 'reduce' });
    await page.route('**/thumbnail', (route) => route.fulfill({ contentType: 'image/png', body: picture('thumbnail.png').buffer }));
    await page.goto(parts.server.url);
    await untilConnection(page, 'live');
    await drag(page, '.scroller', 'dragover', note('dragged.txt'));
    assert.deepEqual(await axe(page), [], 'while files are dragged');
    await screenshot(page, `files-drop-${name}`);
    await drag(page, '.scroller', 'dragleave', note('dragged.txt'));

    await page.route('**/v1/uploads/tus', (route) => route.fulfill({ status: 201, headers: { Location: '/v1/uploads/tus/infected' } }), { times: 1 });
    await page.route('**/v1/uploads/tus/infected', (route) => (route.request().method() === 'GET' ? route.fulfill({ json: INFECTED }) : route.fulfill({ status: 204 })));
    await choose(page, note('invoice.exe'));
    await row(page, 'invoice.exe').getByText('Quarantined').waitFor();
    await choose(page, pdf('timetable.pdf'), picture('platform.png'), long('big.txt', 5 << 20));
    await untilAccepted(page, 'timetable.pdf');
    await untilAccepted(page, 'platform.png');
    await slow(page, 200_000);
    await choose(page, ...[1, 2, 3, 4].map((number) => long(`Minutes of the meeting of this year, part ${number}.txt`, 2_000_000)));
    await row(page, 'part 1').getByRole('progressbar').waitFor();
    assert.deepEqual(await axe(page), [], 'while files are sent');
    await screenshot(page, `files-sending-${name}`);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), page.viewportSize()?.width);
    await slow(page, 0);
    await page.getByRole('button', { name: 'Remove invoice.exe' }).click();
    await eventually(() => rows(page).evaluateAll((all) => all.every((one) => one.dataset.phase === 'clean')), true);

    await say(page, 'What do these say?');
    await untilAnswer(page, 'final');
    await eventually(() => attached(page).getByRole('link').count(), 6);
    await attached(page).filter({ hasText: 'platform.png' }).locator('img').waitFor();
    assert.deepEqual(await axe(page), [], 'when they are sent');
    await screenshot(page, `files-sent-${name}`);
    assertNoFaults(page);
    await page.close();
  });
}

test('a picture that the server has no small one of keeps its sign', async () => {
  const page = await openPage(parts.browser);
  await page.route('**/thumbnail', (route) => route.fulfill({ status: 404, json: { code: 'not-found' } }));
  await page.goto(parts.server.url);
  await choose(page, picture('platform.png'));
  await untilAccepted(page, 'platform.png');
  const asked = page.waitForResponse('**/thumbnail');
  await say(page, 'Where is this?');
  await asked;
  await attached(page).locator('.icon-picture').waitFor();
  assert.equal(await attached(page).locator('img').count(), 0);
});

test('files are added, tried again and removed by keyboard alone', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await untilFocused(composer(page));
  await page.keyboard.press('Shift+Tab');
  await untilFocused(page.getByRole('button', { name: 'Add files' }));
  await page.route('**/v1/uploads/tus', (route) => route.fulfill({ status: 503, headers: { 'Retry-After': '600' }, json: { code: 'overloaded' } }), { times: 1 });
  await chooseIn(page, () => page.keyboard.press('Enter'), [note('one.txt')]);
  await row(page, 'one.txt').getByText('Stopped at 0 % of 19 bytes. It goes on by itself.').waitFor();
  await choose(page, note('two.txt'));
  await untilAccepted(page, 'two.txt');
  await untilFocused(composer(page));
  await page.keyboard.type('x');
  await page.keyboard.press('Tab');
  await untilFocused(page.getByRole('button', { name: 'Send', exact: true }));
  await page.keyboard.press('Tab');
  await untilFocused(page.getByRole('button', { name: 'Retry one.txt' }));
  await page.keyboard.press('Enter');
  await untilAccepted(page, 'one.txt');
  await untilFocused(page.getByRole('button', { name: 'Remove one.txt' }));
  await page.keyboard.press('Enter');
  await untilFocused(page.getByRole('button', { name: 'Remove two.txt' }));
  await page.keyboard.press('Enter');
  await untilFocused(composer(page));
  assert.equal(await rows(page).count(), 0);
});
