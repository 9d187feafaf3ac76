/** Transcripts of hundreds of messages. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { openPage, untilStill } from '../support/browser.js';
import { eventually, until } from '../support/eventually.js';
import { system } from '../support/suite.js';

const parts = system();

/** @param {string} session @param {number} turns */
function history(session, turns) {
  return Array.from({ length: turns }, (_, turn) => {
    const seq = turn * 2 + 1;
    const base = { session_id: session, persona_id: null, version: 'sa01-v1' };
    const at = new Date(Date.now() - (turns - turn) * 60_000).toISOString();
    const text = `Answer ${turn}. `.repeat(20 + (turn % 7) * 15);
    return [
      { id: seq, occurred_at: at, payload: { ...base, type: 'user', role: 'user', event_id: randomUUID(), message: `Question ${turn}`, metadata: { sequence: seq } } },
      {
        id: seq + 1, occurred_at: at,
        payload: {
          ...base, type: 'assistant.final', role: 'assistant', event_id: randomUUID(), message: text,
          html: `<p>${text}</p><ul><li>one</li><li>two</li></ul><pre><code class="language-rust">fn main() {}\n</code></pre>`,
          metadata: { sequence: seq + 1, turn: seq, attempt: 1, completed: true },
        },
      },
    ];
  }).flat();
}

/**
 * Gives a page a conversation the server does not have.
 * @param {import('playwright-core').Page} page @param {string} session @param {ReturnType<typeof history>} events
 */
async function give(page, session, events) {
  await page.route(`**/v1/sessions/${session}/events?*`, (route) => {
    const query = new URL(route.request().url()).searchParams;
    const after = events.filter((event) => event.id > Number(query.get('after')));
    return route.fulfill({ json: { session_id: session, events: after.slice(0, Number(query.get('limit'))), next_cursor: null } });
  });
}

/**
 * How long every other frame takes at most while something is done.
 * @param {import('playwright-core').Page} page @param {() => Promise<void>} work @returns {Promise<number>} in milliseconds
 */
async function typicalFrame(page, work) {
  await page.evaluate(() => {
    const frames = /** @type {number[]} */ ([]);
    let last = performance.now();
    let isOver = false;
    const tick = (/** @type {number} */ now) => {
      frames.push(now - last);
      last = now;
      if (!isOver) requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
    Object.assign(window, {
      median: () => {
        isOver = true;
        return frames.sort((a, b) => a - b)[Math.floor(frames.length / 2)];
      },
    });
  });
  await work();
  return page.evaluate(() => /** @type {any} */ (window).median());
}

test('500 messages open at the end and scroll without long pauses', async () => {
  const page = await openPage(parts.browser);
  const session = randomUUID();
  const turns = 250;
  await give(page, session, history(session, turns));
  await page.goto(`${parts.server.url}/s/${session}`);
  await page.getByText(`Question ${turns - 1}`, { exact: true }).waitFor();
  await eventually(() => page.locator('soma-turn').count(), turns);
  const log = page.locator('.scroller');
  await until('the view is at the end', () => log.evaluate((one) => one.scrollHeight - one.scrollTop - one.clientHeight < 2));
  await untilStill(page);

  await log.hover();
  const resting = await typicalFrame(page, () => page.waitForTimeout(500));
  const scrolling = await typicalFrame(page, async () => {
    for (let step = 0; step < 40; step += 1) {
      await page.mouse.wheel(0, -900);
      await page.waitForTimeout(16);
    }
  });
  // Other work of the machine makes both longer.
  assert.ok(scrolling < Math.max(200, resting * 10), `every other frame takes ${scrolling} ms, at rest ${resting} ms`);
});

test('a longer one opens at its end, and older messages come in above what is read', async () => {
  const page = await openPage(parts.browser);
  const session = randomUUID();
  const turns = 400;
  await give(page, session, history(session, turns));
  const now = new Date().toISOString();
  await page.route('**/v1/sessions?*', (route) => route.fulfill({
    json: [{ session_id: session, title: 'A long one', last_seq: turns * 2, paused: false, created_at: now, updated_at: now }],
  }));
  await page.goto(parts.server.url);
  await page.getByRole('link', { name: 'A long one' }).click();
  await page.getByText(`Question ${turns - 1}`, { exact: true }).waitFor();
  assert.ok(await page.locator('soma-turn').count() < turns);

  await until('the view is at its top', async () => {
    await page.locator('.scroller').evaluate((log) => log.scrollTo(0, 0));
    await untilStill(page);
    return page.locator('.scroller').evaluate((log) => log.scrollTop === 0);
  });
  const first = await page.locator('soma-turn .said-text').first().textContent();
  await page.getByRole('button', { name: 'Show earlier messages' }).click();
  await page.getByText('Question 0', { exact: true }).waitFor({ state: 'attached' });
  await eventually(() => page.locator('soma-turn').count(), turns);
  await untilStill(page);
  const top = await page.getByText(first ?? '', { exact: true }).evaluate((text) => text.getBoundingClientRect().top);
  assert.ok(top > 0 && top < 400, `what was read is now at ${top} px`);
});
