/**
 * Chromium and the page in it.
 * @module
 */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { chromium } from 'playwright-core';

const AXE = createRequire(import.meta.url)('axe-core').source;
const OUT = resolve(process.env.SA01_TEST_OUT ?? join(import.meta.dirname, '../../out'));

/** @typedef {import('playwright-core').Page} Page */

export function launch() {
  return chromium.launch({
    executablePath: process.env.SA01_TEST_CHROMIUM ?? '/usr/bin/chromium',
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
  page.setDefaultTimeout(20_000);
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
export async function untilAnswer(page, phase, timeout = 20_000) {
  await page.locator(`soma-turn:last-child soma-answer[data-phase="${phase}"]`).waitFor({ timeout });
}

/** @param {Page} page @param {string} state @param {number} [timeout] */
export async function untilConnection(page, state, timeout = 20_000) {
  await page.locator(`soma-connection[data-state="${state}"]`).waitFor({ timeout });
}

/** What axe-core finds wrong, one line each. @param {Page} page @returns {Promise<string[]>} */
export async function axe(page) {
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
