/** The API reference under the page's policy, without any other server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertNoFaults, axe, openPage, screenshot } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { system } from '../support/suite.js';

const parts = system();

for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
  test(`every operation is drawn from the description alone, in ${colorScheme} colours`, async () => {
    const page = await openPage(parts.browser, { colorScheme });
    /** @type {string[]} */
    const elsewhere = [];
    page.on('request', (request) => {
      if (!request.url().startsWith(parts.server.url)) elsewhere.push(request.url());
    });
    const response = await page.goto(`${parts.server.url}/docs`);
    assert.match(response?.headers()['content-security-policy'] ?? '', /require-trusted-types-for 'script'/);
    await page.getByRole('heading', { name: 'post /v1/session/message', exact: false }).waitFor();

    const spec = await (await page.request.get(`${parts.server.url}/openapi.json`)).json();
    const methods = ['get', 'post', 'put', 'patch', 'delete', 'head', 'options'];
    const operations = Object.values(spec.paths).flatMap((item) => methods.filter((method) => item[method]));
    await eventually(() => page.locator('.operation').count(), operations.length);
    await page.getByText('session_id', { exact: true }).first().waitFor();
    assert.deepEqual(await axe(page), []);
    assert.deepEqual(elsewhere, []);
    assertNoFaults(page);
    if (colorScheme === 'light') await screenshot(page, 'docs');
  });
}
