/** A transcript of 500 messages. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { openPage } from '../support/browser.js';
import { system } from '../support/suite.js';

const parts = system();
const TURNS = 250;

/** @param {string} session */
function history(session) {
  return Array.from({ length: TURNS }, (_, turn) => {
    const seq = turn * 2 + 1;
    const base = { session_id: session, persona_id: null, version: 'sa01-v1' };
    const at = new Date(Date.now() - (TURNS - turn) * 60_000).toISOString();
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

test('500 messages open at the end and scroll without long pauses', async () => {
  const page = await openPage(parts.browser);
  const session = randomUUID();
  const events = history(session);
  await page.route(`**/v1/sessions/${session}/events?*`, (route) => {
    const after = Number(new URL(route.request().url()).searchParams.get('after'));
    return route.fulfill({ json: { session_id: session, events: events.filter((event) => event.id > after), next_cursor: events.length } });
  });
  const started = Date.now();
  await page.goto(`${parts.server.url}/s/${session}`);
  await page.getByText(`Question ${TURNS - 1}`, { exact: true }).waitFor();
  assert.ok(Date.now() - started < 10_000, `shown after ${Date.now() - started} ms`);
  assert.equal(await page.locator('soma-turn').count(), TURNS);
  await page.waitForTimeout(300);
  const log = page.locator('.scroller');
  assert.ok(await log.evaluate((one) => one.scrollHeight - one.scrollTop - one.clientHeight < 2), 'not at the end');

  await log.hover();
  const slowest = await page.evaluate(() => {
    const frames = /** @type {number[]} */ ([]);
    Object.assign(window, { frames });
    let last = performance.now();
    const tick = (/** @type {number} */ now) => {
      frames.push(now - last);
      last = now;
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
    return frames;
  });
  assert.ok(Array.isArray(slowest));
  for (let step = 0; step < 40; step += 1) {
    await page.mouse.wheel(0, -900);
    await page.waitForTimeout(16);
  }
  const frames = await page.evaluate(() => /** @type {any} */ (window).frames.slice(5).sort((/** @type {number} */ a, /** @type {number} */ b) => a - b));
  const typical = frames[Math.floor(frames.length * 0.9)];
  assert.ok(typical < 100, `nine of ten frames within ${typical} ms`);
});
