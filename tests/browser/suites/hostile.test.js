/** Text that tries to be more than text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, openPage, say, untilAnswer } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { system } from '../support/suite.js';

const parts = system();

const HOSTILE = `<script>window.pwned = 'script'</script>
<img src=x onerror="window.pwned = 'onerror'">
<svg onload="window.pwned = 'svg'"></svg>
<iframe srcdoc="<script>parent.pwned = 'iframe'</script>"></iframe>
<a href="javascript:window.pwned='anchor'" id="message" class="composer">anchor</a>

[link](javascript:window.pwned='link') ![image](javascript:window.pwned='image') [data](data:text/html,<script>1</script>)

<p style="position:fixed;inset:0">cover</p>

\`\`\`"><img src=x onerror="window.pwned='fence'">
</code></pre><script>window.pwned = 'code'</script>
\`\`\`

The end.`;

/** @param {import('playwright-core').Page} page */
async function assertInert(page) {
  const found = await page.evaluate(() => ({
    pwned: /** @type {any} */ (window).pwned ?? null,
    elements: document.querySelectorAll('.md :is(script, img, svg:not(.icon), iframe, [id], [style])').length,
    handlers: [...document.querySelectorAll('.md *')].flatMap((element) => element.getAttributeNames()).filter((name) => name.startsWith('on')),
    links: [...document.querySelectorAll('.md a[href]')].map((link) => link.getAttribute('href') ?? '').filter((href) => !/^(https?|mailto):/.test(href)),
  }));
  assert.deepEqual(found, { pwned: null, elements: 0, handlers: [], links: [] });
}

test('hostile Markdown in an answer is shown and does nothing, live and from the history', async () => {
  parts.model.script('hostile', [HOSTILE]);
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  await say(page, 'Be hostile');
  await untilAnswer(page, 'final');
  await answer(page).getByText('The end.').waitFor();
  await assertInert(page);
  await page.reload();
  await answer(page).getByText('The end.').waitFor();
  await assertInert(page);
});

test('a hostile message and title are text everywhere', async () => {
  const page = await openPage(parts.browser);
  await page.goto(parts.server.url);
  const message = '<img src=x onerror="window.pwned = 1"><b>bold</b>';
  await say(page, message);
  await untilAnswer(page, 'final');
  await eventually(() => page.locator('.said-text').textContent(), message);
  await page.getByRole('link', { name: message }).waitFor();
  await assertInert(page);
});

test('the policy of the page forbids scripts and HTML that are not its own', async () => {
  const page = await openPage(parts.browser);
  const response = await page.goto(parts.server.url);
  const policy = response?.headers()['content-security-policy'] ?? '';
  for (const rule of ["default-src 'self'", "require-trusted-types-for 'script'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"]) {
    assert.ok(policy.includes(rule), `${rule} is not in ${policy}`);
  }
  const refusal = await page.evaluate(() => {
    try {
      document.createElement('div').innerHTML = '<b>x</b>';
      return null;
    } catch (error) {
      return String(error);
    }
  });
  assert.match(refusal ?? '', /TrustedHTML/);
});
