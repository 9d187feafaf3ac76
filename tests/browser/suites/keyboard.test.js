/** The page without a pointer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, composer, openPage, untilAnswer, untilFocused } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { gate } from '../support/model.js';
import { system } from '../support/suite.js';

const parts = system();

test('a conversation is held by keyboard alone', async () => {
  parts.model.script('keys only', ['Typing', gate().opened]);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await untilFocused(composer(page));
  await page.keyboard.type('first line');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('with keys only');
  await page.keyboard.press('Enter');
  await eventually(() => page.locator('.said-text').textContent(), 'first line\nwith keys only');
  await answer(page).getByText('Typing').waitFor();
  await page.keyboard.press('Escape');
  await untilAnswer(page, 'stopped');

  await page.keyboard.press('ArrowUp');
  await eventually(() => composer(page).inputValue(), 'first line\nwith keys only');
  await composer(page).fill('');

  await page.keyboard.press('Control+k');
  await untilFocused(page.getByRole('combobox'));
  await page.keyboard.type('new ch');
  await page.getByRole('option', { name: 'New chat', selected: true }).waitFor();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'What would you like to know?' }).waitFor();
  await untilFocused(composer(page));
  await page.keyboard.type('the second');
  await page.keyboard.press('Enter');
  await answer(page).getByText('You said: the second').waitFor();
  await untilAnswer(page, 'final');

  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press(']');
  await answer(page).getByText('Typing').waitFor();
  await page.locator('.scroller').focus();
  await page.keyboard.press('[');
  await answer(page).getByText('You said: the second').waitFor();
});

test('keys open and close what they name, and focus comes back', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await untilFocused(composer(page));
  await page.keyboard.type('hello');
  await page.keyboard.press('Enter');
  await untilAnswer(page, 'final');
  await page.locator('.scroller').focus();

  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keys' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog', { name: 'Keys' }).waitFor({ state: 'hidden' });
  await untilFocused(page.locator('.scroller'));

  await page.keyboard.press('i');
  await page.getByRole('complementary', { name: 'Inspector' }).waitFor();
  await page.keyboard.press('i');
  await page.getByRole('complementary', { name: 'Inspector' }).waitFor({ state: 'hidden' });

  await page.keyboard.press('/');
  await untilFocused(composer(page));
  await page.keyboard.type('i ? [ / are letters here');
  await eventually(() => composer(page).inputValue(), 'i ? [ / are letters here');

  await page.keyboard.press('Control+k');
  await page.getByRole('combobox').pressSequentially('actors');
  await page.getByRole('option', { name: 'Actors', selected: true }).waitFor();
  await page.keyboard.press('Enter');
  await page.getByRole('dialog', { name: 'Actors' }).getByRole('row').nth(1).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
});

test('brackets step through the list also where AltGr or Option writes them', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  for (const message of ['the older', 'the newer']) {
    await page.getByRole('button', { name: 'New chat' }).first().click();
    await composer(page).fill(message);
    await composer(page).press('Enter');
    await untilAnswer(page, 'final');
  }
  const press = (/** @type {KeyboardEventInit} */ how) => page.locator('.scroller').dispatchEvent('keydown', { bubbles: true, cancelable: true, ...how });
  const shows = (/** @type {string} */ message) => eventually(() => page.locator('.said-text').allTextContents(), [message]);
  await shows('the newer');
  await press({ key: ']', ctrlKey: true, altKey: true });
  await shows('the older');
  await press({ key: '[', altKey: true });
  await shows('the newer');

  // With a letter they are somebody else's keys.
  for (const how of [{ altKey: true }, { ctrlKey: true }, { ctrlKey: true, altKey: true }]) await press({ key: 'i', ...how });
  await press({ key: ']', ctrlKey: true });
  await press({ key: ']' });
  await shows('the older');
  assert.equal(await page.getByRole('complementary', { name: 'Inspector' }).count(), 0);
});

test('every stop of Tab is visible and has a name', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await untilFocused(composer(page));
  await page.keyboard.type('tab through');
  await page.keyboard.press('Enter');
  await untilAnswer(page, 'final');
  const seen = new Set();
  for (let stop = 0; stop < 40; stop += 1) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const here = document.activeElement;
      if (!here || here === document.body) return null;
      const box = here.getBoundingClientRect();
      return {
        name: (here.getAttribute('aria-label') ?? here.textContent ?? '').trim(),
        tag: here.outerHTML.slice(0, 80),
        isVisible: box.width > 0 && box.height > 0 && here.matches(':focus-visible'),
      };
    });
    if (!at) continue;
    assert.ok(at.name !== '', `no name: ${at.tag}`);
    assert.ok(at.isVisible, `not visible: ${at.tag}`);
    seen.add(at.tag);
  }
  assert.ok(seen.size >= 12, `only ${seen.size} stops`);
});
