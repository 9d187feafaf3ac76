/**
 * Chromium and the page in it.
 * @module
 */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { chromium } from 'playwright-core';
import { PATIENCE_MS, until } from './eventually.js';

const AXE = createRequire(import.meta.url)('axe-core').source;
const OUT = resolve(process.env.SA01_TEST_OUT ?? join(import.meta.dirname, '../../out'));

/** @typedef {import('playwright-core').Page} Page */

export function launch() {
  return chromium.launch({
    executablePath: process.env.SA01_TEST_CHROMIUM ?? '/usr/bin/chromium',
    timeout: PATIENCE_MS,
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

/**
 * A page that notes every script error and every breach of the content security policy.
 * @param {import('playwright-core').Browser | import('playwright-core').BrowserContext} browser
 * @param {import('playwright-core').BrowserContextOptions} [options]  for a browser, which gives the page a context of its own
 */
export async function openPage(browser, options = {}) {
  const context = 'newContext' in browser ? await browser.newContext({ viewport: { width: 1280, height: 820 }, locale: 'en-GB', ...options }) : browser;
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  /** @type {string[]} */
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => {
    if (/Content Security Policy|TrustedHTML|Trusted Type/i.test(message.text())) faults.push(message.text());
  });
  return Object.assign(page, { faults });
}

/** @param {{faults: string[]}} page */
export function assertNoFaults(page) {
  assert.deepEqual(page.faults, []);
}

/** @param {Page} page */
export const composer = (page) => page.getByRole('textbox', { name: 'Message' });

/** Types as a person does and sends. @param {Page} page @param {string} message */
export async function say(page, message) {
  await composer(page).fill(message);
  await composer(page).press('Enter');
}

/** The newest answer. @param {Page} page */
export const answer = (page) => page.locator('soma-answer').last();

/**
 * Waits until the newest answer is in a phase.
 * @param {Page} page @param {'waiting' | 'thinking' | 'streaming' | 'final' | 'stopped' | 'error'} phase
 * @param {number} [timeout]
 */
export async function untilAnswer(page, phase, timeout = PATIENCE_MS) {
  await page.locator(`soma-turn:last-child soma-answer[data-phase="${phase}"]`).waitFor({ timeout });
}

/** @param {Page} page @param {string} state */
export async function untilConnection(page, state) {
  await page.locator(`soma-connection[data-state="${state}"]`).waitFor();
}

/** Waits until what is typed goes into an element. @param {import('playwright-core').Locator} element */
export async function untilFocused(element) {
  await until(`the focus is in ${element}`, () => element.evaluate((one) => one === document.activeElement));
}

/** The address of the conversation that the page shows, which it has from its first message on. @param {Page} page */
export async function conversationUrl(page) {
  await page.waitForURL(/\/s\/[0-9a-f-]{36}$/);
  return page.url();
}

/** Waits until the page is drawn as it now is and nothing moves by itself. @param {Page} page */
export async function untilStill(page) {
  await page.evaluate(async () => {
    const frame = () => new Promise((drawn) => requestAnimationFrame(drawn));
    const isMoving = (/** @type {Animation} */ one) => one.playState === 'running' && one.effect?.getComputedTiming().endTime !== Infinity;
    do {
      await Promise.allSettled(document.getAnimations().filter(isMoving).map((one) => one.finished));
      // The first sees what changed, the second what came of it.
      await frame();
      await frame();
    } while (document.getAnimations().some(isMoving));
  });
}

/** What axe-core finds wrong when the page is still, one line each. @param {Page} page @returns {Promise<string[]>} */
export async function axe(page) {
  await untilStill(page);
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { violations } = await /** @type {any} */ (window).axe.run(document, { resultTypes: ['violations'] });
    return violations.flatMap((/** @type {any} */ violation) => violation.nodes.map((/** @type {any} */ node) => `${violation.id}: ${node.target} ${node.failureSummary}`));
  });
}

/** @param {Page} page @param {string} name */
export async function screenshot(page, name) {
  await mkdir(OUT, { recursive: true });
  await page.screenshot({ path: join(OUT, `${name}.png`) });
}
