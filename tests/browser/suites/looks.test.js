/** The page in light and dark, wide and narrow, checked by axe-core. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, assertNoFaults, axe, openPage, say, untilAnswer, untilConnection, untilStill } from '../support/browser.js';
import { eventually, until } from '../support/eventually.js';
import { TRAIN, QUESTION } from '../support/example.js';
import { system } from '../support/suite.js';

const parts = system();

/** @param {import('playwright-core').BrowserContextOptions} options */
async function conversation(options) {
  parts.model.script('night train', [TRAIN]);
  const page = await openPage(parts.browser, options);
  await page.goto(parts.server.url);
  await untilConnection(page, 'live');
  await say(page, QUESTION);
  await untilAnswer(page, 'final');
  await answer(page).getByText('the timetable').waitFor();
  return page;
}

for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
  test(`in ${colorScheme} colours axe finds nothing, in any view`, async () => {
    const page = await openPage(parts.browser, { colorScheme, reducedMotion: 'reduce' });
    await page.goto(parts.server.url);
    await untilConnection(page, 'live');
    assert.deepEqual(await axe(page), [], 'empty page');
    await page.close();

    const full = await conversation({ colorScheme, reducedMotion: 'reduce' });
    assert.deepEqual(await axe(full), [], 'conversation');
    await full.locator('.scroller').evaluate((log) => log.scrollTo(0, 0));
    await full.getByRole('button', { name: 'Inspector', exact: true }).click();
    await full.getByRole('heading', { name: 'Mailbox' }).waitFor();
    assert.deepEqual(await axe(full), [], 'inspector');
    await full.getByRole('button', { name: 'More actions' }).click();
    await full.getByRole('menu').waitFor();
    assert.deepEqual(await axe(full), [], 'menu');
    await full.keyboard.press('Escape');
    for (const name of ['Keys', 'Settings', 'Actors']) {
      await full.getByRole('navigation').getByRole('button', { name }).click();
      await full.getByRole('dialog', { name }).waitFor();
      assert.deepEqual(await axe(full), [], name);
      await full.keyboard.press('Escape');
      await full.getByRole('dialog', { name }).waitFor({ state: 'hidden' });
    }
    await full.keyboard.press('Control+k');
    await full.getByRole('combobox').waitFor();
    assert.deepEqual(await axe(full), [], 'palette');
    assertNoFaults(full);
    await full.close();
  });
}

test('at 360 px nothing is cut off, and code scrolls inside its block', async () => {
  const page = await conversation({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, reducedMotion: 'reduce' });
  await page.locator('.code-block pre').waitFor();
  await untilStill(page);
  const widths = await page.evaluate(() => ({
    page: document.documentElement.scrollWidth,
    log: document.querySelector('.scroller')?.scrollWidth ?? 0,
    code: [document.querySelector('.code-block pre')].map((pre) => (pre?.scrollWidth ?? 0) - (pre?.clientWidth ?? 0))[0],
  }));
  assert.equal(widths.page, 360);
  assert.ok(widths.log <= 360, `the transcript is ${widths.log} px wide`);
  assert.ok(widths.code > 0, 'the code block does not scroll');
  assert.deepEqual(await axe(page), []);
  await page.getByRole('navigation').waitFor({ state: 'hidden' });
  await page.getByRole('button', { name: 'Show conversations' }).click();
  await page.getByRole('navigation').getByRole('link', { name: 'When does the night train' }).first().waitFor();
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press('Escape');
  await page.getByRole('navigation').waitFor({ state: 'hidden' });
});

test('the columns of a table are aligned as they were written', async () => {
  const page = await conversation({});
  const alignments = (/** @type {string} */ cells) => page.locator(`.md ${cells}`).evaluateAll((all) => all.map((cell) => getComputedStyle(cell).textAlign));
  assert.deepEqual(await alignments('th'), ['left', 'right', 'center']);
  assert.deepEqual(await alignments('tr:last-child td'), ['left', 'right', 'center']);
});

test('the chosen colours outlive a reload, without regard to the system’s', async () => {
  const page = await openPage(parts.browser, { colorScheme: 'light' });
  await page.goto(parts.server.url);
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByRole('radio', { name: 'Dark' }).check();
  await until('the page is dark', async () => (await paper()) !== light);
  await untilStill(page);
  const dark = await paper();
  await page.reload();
  await eventually(paper, dark);
});

test('copy gives the code as it was written', async () => {
  const page = await conversation({ permissions: ['clipboard-read', 'clipboard-write'] });
  await page.getByRole('button', { name: 'Copy', exact: true }).click();
  await page.getByText('Copied').waitFor();
  const code = TRAIN.split('```rust\n')[1].split('\n```')[0];
  await eventually(() => page.evaluate(() => navigator.clipboard.readText()), code);
});

test('the view follows the answer only while its reader is at the end', async () => {
  const lines = Array.from({ length: 60 }, (_, line) => `Line ${line}.\n\n`);
  parts.model.script('sixty lines', lines.flatMap((line) => [line]));
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'Give me sixty lines');
  await answer(page).getByText('Line 59.').waitFor();
  await untilAnswer(page, 'final');
  const fromEnd = () => page.locator('.scroller').evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight);
  await until('the view is at the end', async () => (await fromEnd()) < 2);

  await page.locator('.scroller').hover();
  await page.mouse.wheel(0, -600);
  await page.getByRole('button', { name: 'New: go to the end' }).waitFor();
  await untilStill(page);
  const before = await fromEnd();
  await page.evaluate(() => document.querySelector('soma-answer .md')?.append('more text'));
  await untilStill(page);
  assert.ok(await fromEnd() >= before, 'the view moved under the reader');
  await page.getByRole('button', { name: 'New: go to the end' }).click();
  await until('the view is at the end again', async () => (await fromEnd()) < 2);
});
