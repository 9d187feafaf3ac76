/** Files from the person's hand to the transcript. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertNoFaults, composer, conversationUrl, openPage, say, untilAnswer, untilConnection, untilFocused } from '../support/browser.js';
import { eventually, until } from '../support/eventually.js';
import { attached, choose, listen, long, note, pdf, picture, reason, row, rows, slow, untilAccepted } from '../support/files.js';
import { gate } from '../support/model.js';
import { freePort } from '../support/server.js';
import { system } from '../support/suite.js';

const METRICS = await freePort();
const parts = system({ GATEWAY_METRICS_PORT: String(METRICS) });

/** How many files the server has kept so far. */
async function filesKept() {
  const page = await (await fetch(`http://127.0.0.1:${METRICS}/metrics`)).text();
  return Number(/^gateway_uploads_total\{result="ok"\} (\d+)/m.exec(page)?.[1] ?? 0);
}

/** @param {import('playwright-core').BrowserContextOptions} [options] */
async function open(options) {
  const page = await openPage(parts.browser, options);
  await page.goto(parts.server.url);
  await untilFocused(composer(page));
  return page;
}

test('a PDF, a picture and a text go with a message, and are there after a reload and in a second tab', async () => {
  const page = await open();
  const files = [pdf('timetable.pdf'), picture('platform.png'), note('notes.txt')];
  await choose(page, ...files);
  for (const { name } of files) await untilAccepted(page, name);
  assert.equal(await row(page, 'platform.png').locator('canvas').count(), 1, 'a picture is shown small');
  await untilFocused(composer(page));
  const watching = await openPage(page.context());
  await watching.goto(await conversationUrl(page));
  await untilConnection(watching, 'live');
  await say(page, 'What do these say?');
  await untilAnswer(page, 'final');
  assert.equal(await rows(page).count(), 0);

  const told = [/^timetable\.pdfPDF · \d+ bytes$/, /^platform\.pngPNG · \d+/, /^notes\.txtText · 21 bytes$/];
  const check = async (/** @type {import('playwright-core').Page} */ shown) => {
    await until('every file says what it is', async () => {
      const all = await attached(shown).allTextContents();
      return all.length === told.length && told.every((line, index) => line.test(all[index]));
    });
    const download = shown.waitForEvent('download');
    await shown.getByRole('link', { name: 'Download timetable.pdf' }).click();
    const got = await download;
    assert.equal(got.suggestedFilename(), 'timetable.pdf');
    const chunks = [];
    for await (const chunk of await got.createReadStream()) chunks.push(chunk);
    assert.deepEqual(Buffer.concat(chunks), files[0].buffer);
  };
  await check(page);
  await check(watching);
  await page.reload();
  await check(page);
  const other = await openPage(page.context());
  await other.goto(await conversationUrl(page));
  await check(other);
  assertNoFaults(page);
  assertNoFaults(other);
});

test('a message of files alone is sent, and shows no empty text', async () => {
  const page = await open();
  await choose(page, note('alone.txt'));
  await untilAccepted(page, 'alone.txt');
  await composer(page).press('Enter');
  await attached(page).getByText('alone.txt').waitFor();
  await untilAnswer(page, 'final');
  assert.equal(await page.locator('.said-text').isVisible(), false);
});

test('a file tells how far it has come, and one that is cancelled leaves nothing on the server', async () => {
  const page = await open();
  const before = await filesKept();
  /** @type {string[]} */
  const ends = [];
  for (const end of /** @type {const} */ (['requestfinished', 'requestfailed'])) {
    page.on(/** @type {'requestfinished'} */ (end), (request) => request.method() === 'PATCH' && ends.push(end));
  }
  await slow(page, 100_000);
  await choose(page, long('slow.txt', 4_000_000));
  const progress = page.getByRole('progressbar', { name: 'Progress of slow.txt' });
  await until('some of it has gone out', async () => {
    const part = await progress.evaluate((bar) => /** @type {HTMLProgressElement} */ (bar).value);
    return part > 0 && part < 1;
  });
  await row(page, 'slow.txt').getByText(/^\d+ % of 3.8 MB$/).waitFor();
  await page.getByRole('button', { name: 'Cancel slow.txt' }).click();
  await eventually(() => rows(page).count(), 0);
  await untilFocused(composer(page));
  await slow(page, 0);
  await choose(page, note('quick.txt'));
  await untilAccepted(page, 'quick.txt');
  await eventually(() => ends, ['requestfailed', 'requestfinished']);
  assert.equal(await filesKept(), before + 1);
});

test('three files go at a time, and the others wait visibly', async () => {
  const page = await open();
  await slow(page, 50_000);
  await choose(page, ...[1, 2, 3, 4, 5].map((number) => long(`part ${number}.txt`, 1_000_000)));
  const phases = () => rows(page).evaluateAll((all) => all.map((one) => one.dataset.phase));
  await eventually(phases, ['sending', 'sending', 'sending', 'waiting', 'waiting']);
  await row(page, 'part 4.txt').getByText('Waits for the others').waitFor();
  await page.getByRole('button', { name: 'Cancel part 2.txt' }).click();
  await eventually(phases, ['sending', 'sending', 'sending', 'waiting']);
  await untilFocused(page.getByRole('button', { name: 'Cancel part 3.txt' }));
  await slow(page, 0);
  await eventually(phases, ['clean', 'clean', 'clean', 'clean']);
});

test('a message waits for its files, and typing holds it back', async () => {
  const page = await open();
  await slow(page, 100_000);
  await choose(page, long('awaited.txt', 2_000_000));
  await say(page, 'Read the long one');
  await reason(page, 'Sends when the file is there.').waitFor();
  await composer(page).press('End');
  await page.keyboard.type(', please');
  await reason(page, 'Sends when the file is there.').waitFor({ state: 'hidden' });
  await composer(page).press('Enter');
  await reason(page, 'Sends when the file is there.').waitFor();
  assert.equal(await page.locator('soma-turn').count(), 0);
  await slow(page, 0);
  await eventually(() => page.locator('.said-text').textContent(), 'Read the long one, please');
  await attached(page).getByText('awaited.txt').waitFor();
  await untilAnswer(page, 'final');
});

test('a message that waits stays where it is when one of its files is taken out or not taken', async () => {
  const page = await open();
  await slow(page, 50_000);
  await choose(page, note('there.txt'), long('endless.txt', 4_000_000));
  await untilAccepted(page, 'there.txt');
  await say(page, 'With or without it');
  await reason(page, 'Sends when the file is there.').waitFor();
  await page.getByRole('button', { name: 'Cancel endless.txt' }).click();
  await reason(page, 'Sends when the file is there.').waitFor({ state: 'hidden' });
  await page.getByRole('button', { name: 'Remove there.txt' }).click();
  await eventually(() => rows(page).count(), 0);
  assert.equal(await page.locator('soma-turn').count(), 0);
  await slow(page, 0);

  const refusal = gate();
  await page.route('**/v1/uploads/tus', async (route) => {
    await refusal.opened;
    await route.fulfill({ status: 415, json: { code: 'mime-not-allowed', detail: 'Not this one.' } });
  }, { times: 1 });
  await choose(page, note('unwanted.txt'));
  await composer(page).press('Enter');
  await reason(page, 'Sends when the file is there.').waitFor();
  refusal.open();
  await row(page, 'unwanted.txt').getByText('Not this one.').waitFor();
  await reason(page, 'Retry or remove what was not taken, then send.').waitFor();
  assert.equal(await composer(page).inputValue(), 'With or without it');
  assert.equal(await page.locator('soma-turn').count(), 0);
  await page.getByRole('button', { name: 'Remove unwanted.txt' }).click();
  assert.equal(await page.locator('soma-turn').count(), 0, 'it goes when it is told to');
  await composer(page).press('Enter');
  await eventually(() => page.locator('.said-text').textContent(), 'With or without it');
});

test('a file that the server could not take says why, holds the message, and is taken when it is tried again', async () => {
  const page = await open();
  const said = await listen(page);
  // The page goes on by itself for a minute or so.
  await page.clock.install();
  let isBusy = true;
  await page.route('**/v1/uploads/tus', (route) => (isBusy ? route.fulfill({
    status: 503, headers: { 'Content-Type': 'application/problem+json', 'Retry-After': '1' },
    json: { type: 'https://soma.example/problems#overloaded', code: 'busy-for-a-test', title: 'Busy', detail: 'Everybody is busy.' },
  }) : route.fallback()));
  await choose(page, note('unlucky.txt'));
  await row(page, 'unlucky.txt').getByText('Stopped at 0 % of 23 bytes. It goes on by itself.').waitFor();
  await until('the page gives up', async () => {
    await page.clock.fastForward(15_000);
    return row(page, 'unlucky.txt').getByText('Everybody is busy.').isVisible();
  });
  await page.clock.resume();
  isBusy = false;
  await say(page, 'Take it');
  await reason(page, 'Retry or remove what was not taken, then send.').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Send', exact: true }).isDisabled(), true);
  await page.getByRole('button', { name: 'Retry unlucky.txt' }).press('Enter');
  await untilAccepted(page, 'unlucky.txt');
  await untilFocused(page.getByRole('button', { name: 'Remove unlucky.txt' }));
  await composer(page).press('Enter');
  await attached(page).getByText('unlucky.txt').waitFor();
  const heard = await said();
  for (const line of ['Added unlucky.txt.', 'unlucky.txt: stopped, and goes on by itself.', 'unlucky.txt: Everybody is busy.', 'unlucky.txt: accepted.']) {
    assert.equal(heard.filter((one) => one === line).length, 1, `${line} in ${heard}`);
  }
});

test('the files of a message that is not sent yet outlive a reload, from a new conversation too', async () => {
  const page = await open();
  await composer(page).fill('Half a sentence');
  await choose(page, picture('kept.png'), note('dropped.txt'));
  await untilAccepted(page, 'kept.png');
  await untilAccepted(page, 'dropped.txt');
  await page.getByRole('button', { name: 'Remove dropped.txt' }).click();
  await untilFocused(page.getByRole('button', { name: 'Remove kept.png' }));
  await page.reload();
  await untilAccepted(page, 'kept.png');
  assert.equal(await rows(page).count(), 1);
  assert.equal(await composer(page).inputValue(), 'Half a sentence');
  // The way back to what was begun is the way to a new conversation.
  await page.goto(parts.server.url);
  await untilAccepted(page, 'kept.png');
  await composer(page).press('Enter');
  await attached(page).getByText('kept.png').waitFor();
  await untilAnswer(page, 'final');
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await page.getByRole('heading', { name: 'What would you like to know?' }).waitFor();
  assert.equal(await rows(page).count(), 0);
});

test('files that go to a conversation go on while another one is looked at', async () => {
  const page = await open();
  await say(page, 'The other one');
  await untilAnswer(page, 'final');
  const other = await conversationUrl(page);
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await page.getByRole('heading', { name: 'What would you like to know?' }).waitFor();
  await slow(page, 100_000);
  await choose(page, long('going.txt', 1_000_000));
  await row(page, 'going.txt').getByText(/ % of /).waitFor();
  const own = await conversationUrl(page);
  await page.getByRole('link', { name: 'The other one' }).click();
  await page.waitForURL(other);
  await eventually(() => rows(page).count(), 0);
  await slow(page, 0);
  await page.goBack();
  await page.waitForURL(own);
  await untilAccepted(page, 'going.txt');
});

test('a message that did not get out keeps its files over a reload', async () => {
  const page = await open();
  await choose(page, note('carried.txt'));
  await untilAccepted(page, 'carried.txt');
  await page.route('**/v1/session/message', (route) => route.abort('connectionreset'), { times: 1 });
  await say(page, 'Into the dark');
  await page.getByRole('alert').getByText('Not sent.').waitFor();
  assert.equal(await rows(page).count(), 0);
  await page.reload();
  await attached(page).getByRole('link', { name: 'Download carried.txt' }).waitFor();
  await page.getByRole('button', { name: 'Retry' }).click();
  await untilAnswer(page, 'final');
  await page.reload();
  await attached(page).getByRole('link', { name: 'Download carried.txt' }).waitFor();
});

test('a page asks before it is closed while a message waits for a file, which would not go by itself', async () => {
  const page = await open();
  await slow(page, 50_000);
  await choose(page, long('long.txt', 2_000_000));
  await say(page, 'With the long one');
  await reason(page, 'Sends when the file is there.').waitFor();
  const asked = page.waitForEvent('dialog');
  await page.close({ runBeforeUnload: true });
  const dialog = await asked;
  assert.equal(dialog.type(), 'beforeunload');
  await dialog.dismiss();
  await slow(page, 0);
  await untilAnswer(page, 'final');
  await attached(page).getByText('long.txt').waitFor();
});

test('a message that refers to what is gone says which file, and can go without it', async () => {
  const page = await open();
  await choose(page, note('stays.txt'), note('goes.txt'));
  await untilAccepted(page, 'stays.txt');
  await untilAccepted(page, 'goes.txt');
  await page.route('**/v1/session/message', (route) => route.fulfill({
    status: 422, headers: { 'Content-Type': 'application/problem+json' },
    json: {
      code: 'attachment-not-found', title: 'An attachment does not exist', detail: 'body.attachments.1: is gone',
      errors: [{ loc: ['body', 'attachments', 1], msg: 'is gone' }],
    },
  }), { times: 1 });
  await say(page, 'Two of them');
  await page.getByRole('alert').getByText('Not sent.').waitFor();
  await attached(page).filter({ hasText: 'goes.txt' }).getByText('is gone').waitFor();
  await page.getByRole('button', { name: 'Send without it' }).click();
  await untilAnswer(page, 'final');
  await eventually(() => attached(page).count(), 1);
  await attached(page).getByText('stays.txt').waitFor();
});
