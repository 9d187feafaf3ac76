/** Files that are dropped and pasted, and those that are not taken. */
import assert from 'node:assert/strict';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertNoFaults, composer, openPage, untilFocused } from '../support/browser.js';
import { eventually, until } from '../support/eventually.js';
import { choose, chooseIn, drag, listen, note, paste, picture, row, rows, untilAccepted } from '../support/files.js';
import { system } from '../support/suite.js';

const parts = system({ GATEWAY_UPLOAD_MAX_MB: '1', GATEWAY_UPLOAD_MAX_FILES: '3', GATEWAY_UPLOAD_DENIED_MIME: 'text/html' });

/** @param {import('playwright-core').BrowserContextOptions} [options] */
async function open(options) {
  const page = await openPage(parts.browser, options);
  await page.goto(parts.server.url);
  await untilFocused(composer(page));
  return page;
}

/** @param {import('playwright-core').Page} page */
const dropSign = (page) => page.locator('soma-drop');
/** @param {import('playwright-core').Page} page */
const unadded = (page) => page.locator('.unadded li').allTextContents();

test('files and folders from the desktop are dropped on the conversation', async () => {
  const page = await open();
  const folder = await mkdtemp(join(tmpdir(), 'soma-drop-'));
  try {
    await mkdir(join(folder, 'album'));
    await writeFile(join(folder, 'photo.png'), picture('photo.png').buffer);
    await writeFile(join(folder, 'list.txt'), 'one\ntwo\n');
    const session = await page.context().newCDPSession(page);
    const at = { x: 700, y: 300, data: { items: [], files: ['photo.png', 'list.txt', 'album'].map((name) => join(folder, name)), dragOperationsMask: 1 } };
    const send = (/** @type {'dragEnter' | 'dragOver' | 'drop'} */ type) => session.send('Input.dispatchDragEvent', { type, ...at });
    await send('dragEnter');
    await until('the page says what a drop does', async () => {
      await send('dragOver');
      return dropSign(page).getByText('Drop files to add them to your message').isVisible();
    });
    await send('drop');
    await dropSign(page).waitFor({ state: 'hidden' });
    await untilAccepted(page, 'photo.png');
    await untilAccepted(page, 'list.txt');
    await eventually(() => unadded(page), ['album was not added: it is a folder.']);
    await page.getByRole('button', { name: 'Hide why files were not added' }).click();
    await eventually(() => unadded(page), []);
    await untilFocused(composer(page));
    assertNoFaults(page);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a drag that leaves, or never says that it ended, leaves nothing behind, and one beside the conversation adds nothing', async () => {
  const page = await open();
  const sign = dropSign(page);
  const over = () => drag(page, '.scroller', 'dragover', note('passing.txt'));
  await until('the sign is there', async () => {
    await over();
    return sign.isVisible();
  });
  await drag(page, '.scroller', 'dragleave', note('passing.txt'));
  assert.equal(await sign.isVisible(), false);
  await until('the sign is there again', async () => {
    await over();
    return sign.isVisible();
  });
  await sign.waitFor({ state: 'hidden' });
  await drag(page, 'soma-sidebar', 'dragover', note('beside.txt'));
  assert.equal(await sign.isVisible(), false);
  await drag(page, 'soma-sidebar', 'drop', note('beside.txt'));
  await drag(page, '.scroller', 'drop', note('there.txt'));
  await untilAccepted(page, 'there.txt');
  assert.equal(await rows(page).count(), 1);
  assert.equal(page.url().startsWith(parts.server.url), true, 'the browser did not leave for the file');
});

test('a picture is pasted from the clipboard', async () => {
  const page = await open({ permissions: ['clipboard-read', 'clipboard-write'] });
  await page.evaluate(async (bytes) => {
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': new Blob([new Uint8Array(bytes)], { type: 'image/png' }) })]);
  }, [...picture('any.png').buffer]);
  await page.keyboard.press('Control+v');
  await untilAccepted(page, 'image.png');
  assert.equal(await composer(page).inputValue(), '');
});

test('a pasted text stays a text, also if a picture of it comes along', async () => {
  const page = await open();
  const taken = await paste(page, [picture('of the text.png')], { 'text/plain': 'the text', 'text/html': '<b>the text</b>' });
  assert.equal(taken, false, 'the browser pastes the text');
  assert.equal(await paste(page, [note('one.txt'), note('two.txt')]), true);
  await untilAccepted(page, 'one.txt');
  await untilAccepted(page, 'two.txt');
  assert.equal(await rows(page).count(), 2);
});

test('what is too big, empty, of a wrong type or too much is refused in the page, with the reason, once, and nothing is sent', async () => {
  const page = await open();
  const said = await listen(page);
  /** @type {string[]} */
  const sent = [];
  page.on('request', (request) => {
    if (request.method() === 'POST' && request.url().endsWith('/v1/uploads/tus')) sent.push(request.url());
  });
  const big = { ...note('big.txt'), buffer: Buffer.alloc((1 << 20) + 1, 'a') };
  await choose(page, big, note('empty.txt', ''), { ...note('page.html', '<p>x'), mimeType: 'text/html' });
  const reasons = [
    'big.txt was not added: it is larger than 1 MB, the most that is taken.',
    'empty.txt was not added: it is empty.',
    'page.html was not added: files of the type text/html are not taken here.',
  ];
  await eventually(() => unadded(page), reasons);
  await choose(page, ...[1, 2, 3, 4, 5].map((number) => note(`${number}.txt`)));
  await eventually(() => unadded(page), ['2 files were not added: a message takes 3 files at most.']);
  for (const number of [1, 2, 3]) await untilAccepted(page, `${number}.txt`);
  assert.equal(sent.length, 3);
  const heard = await said();
  assert.equal(heard.filter((line) => line === reasons.join(' ')).length, 1, `${heard}`);
});

test('what the page could not know the server refuses, with its reason', async () => {
  const page = await open();
  // Also while the rest of it is still on its way.
  const words = 'no '.repeat(300_000);
  await choose(page, note('page.txt', '<!doctype html><html><body>no</body></html>'), note('long page.txt', `<!doctype html><html><body>${words}`));
  await row(page, 'page.txt').getByText('MIME type not allowed: text/html').first().waitFor();
  await row(page, 'long page.txt').getByText('MIME type not allowed: text/html').waitFor();
  await page.getByRole('button', { name: 'Remove long page.txt' }).click();
  assert.equal(await page.getByRole('button', { name: 'Retry page.txt' }).count(), 0, 'another try would change nothing');
  await page.getByRole('button', { name: 'Remove page.txt' }).click();
  await eventually(() => rows(page).count(), 0);
});

test('a file that is no longer where it was is said to be so', async () => {
  const page = await open();
  const folder = await mkdtemp(join(tmpdir(), 'soma-moved-'));
  try {
    const path = join(folder, 'moved.txt');
    await writeFile(path, 'here for now');
    await page.route('**/v1/uploads/tus', (route) => route.abort('connectionreset'));
    await chooseIn(page, () => page.getByRole('button', { name: 'Add files' }).click(), path);
    await row(page, 'moved.txt').getByText('Stopped at 0 % of').waitFor();
    await rm(path);
    await page.getByRole('button', { name: 'Retry moved.txt' }).click();
    await row(page, 'moved.txt').getByText('The file can no longer be read. Choose it again.').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Retry moved.txt' }).count(), 0);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('where uploads are switched off the page says so, as soon as it learns of it', async () => {
  const page = await open();
  const settings = `${parts.server.url}/v1/ui/settings/sections`;
  const enable = async (/** @type {boolean} */ value) => {
    const saved = await page.request.post(settings, { data: { sections: [{ id: 'uploads', fields: [{ id: 'uploads_enabled', value }] }] } });
    assert.equal(saved.status(), 200, await saved.text());
    await eventually(async () => (await (await page.request.get(`${parts.server.url}/ui/config.json`)).json()).uploads_enabled, value);
  };
  try {
    await enable(false);
    const add = page.getByRole('button', { name: 'Add files' });
    assert.equal(await add.getAttribute('aria-disabled'), 'false');
    await choose(page, note('late.txt'));
    await row(page, 'late.txt').locator('.icon-alert').waitFor();
    await eventually(() => add.getAttribute('aria-disabled'), 'true');
    await eventually(() => add.getAttribute('title'), 'This server takes no files.');
    await page.getByRole('button', { name: 'Remove late.txt' }).click();

    await page.reload();
    await eventually(() => add.getAttribute('aria-disabled'), 'true');
    await add.focus();
    await page.keyboard.press('Enter');
    await eventually(() => unadded(page), ['This server takes no files.']);
    await paste(page, [note('pasted.txt')]);
    await until('a drag is told that nothing is taken', async () => {
      await drag(page, '.scroller', 'dragover', note('dragged.txt'));
      return dropSign(page).getByText('This server takes no files.').isVisible();
    });
    await drag(page, '.scroller', 'drop', note('dragged.txt'));
    assert.equal(await rows(page).count(), 0);
  } finally {
    await enable(true);
  }
  // Who comes back to the page finds it as it is now.
  await page.evaluate(() => window.dispatchEvent(new Event('focus')));
  await eventually(() => page.getByRole('button', { name: 'Add files' }).getAttribute('aria-disabled'), 'false');
  await choose(page, note('now.txt'));
  await untilAccepted(page, 'now.txt');
});
