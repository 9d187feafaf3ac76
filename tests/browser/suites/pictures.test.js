/** Pictures of the page for people to look at, in the folder that SA01_TEST_OUT names. */
import { test } from 'node:test';
import { answer, conversationUrl, openPage, say, screenshot, untilAnswer, untilConnection, untilStill } from '../support/browser.js';
import { QUESTION, TRAIN } from '../support/example.js';
import { gate } from '../support/model.js';
import { system } from '../support/suite.js';

const parts = system();
const EARLIER = ['Plan the garden beds for spring', 'Why did the journal refuse an append?', 'Draft the note to the landlord', 'Translate the menu from Lyon'];

/** @type {Promise<string> | undefined} */
let prepared;

/** The address of one conversation that all pictures show. */
function example() {
  prepared ??= prepare();
  return prepared;
}

async function prepare() {
  parts.model.script('night train', [TRAIN]);
  const page = await openPage(parts.browser);
  for (const message of [...EARLIER, QUESTION]) {
    await page.goto(parts.server.url);
    await untilConnection(page, 'live');
    await say(page, message);
    await untilAnswer(page, 'final');
  }
  const address = await conversationUrl(page);
  await page.close();
  return address;
}

const DESK = { viewport: { width: 1440, height: 900 }, reducedMotion: /** @type {const} */ ('reduce') };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, reducedMotion: /** @type {const} */ ('reduce') };

/** @param {import('playwright-core').BrowserContextOptions} options */
async function open(options) {
  const address = await example();
  const page = await openPage(parts.browser, options);
  await page.goto(address);
  await answer(page).getByText('the timetable').waitFor();
  await page.locator('.session').first().waitFor({ state: 'attached' });
  return page;
}

/** @param {import('playwright-core').Page} page */
async function toTop(page) {
  await page.locator('.scroller').evaluate((log) => log.scrollTo(0, 0));
  await untilStill(page);
}

for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
  test(`the page is pictured in ${colorScheme} colours`, async () => {
    const page = await open({ ...DESK, colorScheme });
    await toTop(page);
    await screenshot(page, colorScheme);
    await page.getByRole('button', { name: 'Inspector', exact: true }).click();
    await page.getByRole('heading', { name: 'Mailbox' }).waitFor();
    await toTop(page);
    await screenshot(page, `${colorScheme}-inspector`);
    await page.close();
  });
}

test('the page is pictured at 360 px', async () => {
  const page = await open(PHONE);
  await toTop(page);
  await screenshot(page, '360');
  await page.close();
});

test('an answer is pictured while it is written', async () => {
  parts.model.script('slow tea', [TRAIN.slice(0, TRAIN.indexOf('| Class')), gate().opened]);
  const page = await openPage(parts.browser, DESK);
  await page.goto(parts.server.url);
  await untilConnection(page, 'live');
  await say(page, 'What about slow tea on the train?');
  await answer(page).locator('.code-block').waitFor();
  await screenshot(page, 'streaming');
  await page.close();
});
