/** Files that come in pieces, by the client most people have: in node and in Chromium, while the server is killed. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import * as tus from 'tus-js-client';
import { openPage } from '../support/browser.js';
import { system } from '../support/suite.js';

/** The client as browsers load it. */
const BUNDLE = createRequire(import.meta.url).resolve('tus-js-client/dist/tus.js');
const BYTES = 6_000_000;
const PIECE = 1_000_000;
/** The server may take its time to be there again. */
const RETRIES = Array.from({ length: 180 }, () => 1_000);
const parts = system();

/** Kills the server; it is started again while whoever asked for that goes on. */
async function cut() {
  await parts.server.kill();
  void parts.server.again();
}

/**
 * @param {string} place where an attachment is
 * @returns {Promise<string>} the SHA-256 of what is there
 */
async function fetched(place) {
  const reply = await fetch(`${parts.server.url}${place}`);
  assert.equal(reply.status, 200);
  return createHash('sha256').update(Buffer.from(await reply.arrayBuffer())).digest('hex');
}

/** @param {string[]} asked the methods of all requests */
function assertWentOn(asked) {
  assert.equal(asked.filter((method) => method === 'POST').length, 1, 'it did not begin anew');
  assert.ok(asked.includes('HEAD'), 'it asked where it stopped');
  const pieces = asked.filter((method) => method === 'PATCH').length;
  assert.equal(pieces, BYTES / PIECE + 1, 'only the piece that was cut off was sent again');
}

test('in node an upload goes on where it was when the server was killed', async () => {
  const bytes = randomBytes(BYTES);
  /** @type {string[]} */
  const asked = [];
  const place = await new Promise((resolve, reject) => {
    new tus.Upload(bytes, {
      endpoint: `${parts.server.url}/v1/uploads/tus`,
      chunkSize: PIECE,
      retryDelays: RETRIES,
      metadata: { filename: 'größe.bin', filetype: 'application/octet-stream' },
      onBeforeRequest: async (request) => {
        asked.push(request.getMethod());
        if (asked.filter((method) => method === 'PATCH').length === 4 && !asked.includes('HEAD')) await cut();
      },
      onSuccess: ({ lastResponse }) => resolve(lastResponse.getHeader('Upload-Attachment')),
      onError: reject,
    }).start();
  });
  assertWentOn(asked);
  assert.equal(await fetched(place), createHash('sha256').update(bytes).digest('hex'));
});

test('in node parts that are sent side by side become one file', async () => {
  const bytes = randomBytes(BYTES);
  const url = await new Promise((resolve, reject) => {
    const upload = new tus.Upload(bytes, {
      endpoint: `${parts.server.url}/v1/uploads/tus`,
      parallelUploads: 3,
      metadata: { filename: 'parts.bin' },
      onSuccess: () => resolve(upload.url),
      onError: reject,
    });
    upload.start();
  });
  const record = await (await fetch(url)).json();
  assert.deepEqual([record.filename, record.sha256], ['parts.bin', createHash('sha256').update(bytes).digest('hex')]);
});

test('in Chromium an upload goes on where it was when the server was killed', async () => {
  const page = await openPage(parts.browser);
  await page.exposeFunction('cut', cut);
  await page.goto(parts.server.url);
  await page.evaluate(await readFile(BUNDLE, 'utf8'));
  const { asked, place, sum } = await page.evaluate(async ({ length, piece, retries }) => {
    const here = /** @type {any} */ (globalThis);
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += 50_000) crypto.getRandomValues(bytes.subarray(at, at + 50_000));
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    /** @type {string[]} */
    const asked = [];
    /** @type {string} */
    const place = await new Promise((resolve, reject) => {
      new here.tus.Upload(new File([bytes], 'page.bin'), {
        endpoint: '/v1/uploads/tus',
        chunkSize: piece,
        retryDelays: retries,
        metadata: { filename: 'page.bin' },
        onBeforeRequest: async (/** @type {any} */ request) => {
          asked.push(request.getMethod());
          if (asked.filter((method) => method === 'PATCH').length === 4 && !asked.includes('HEAD')) await here.cut();
        },
        onSuccess: (/** @type {any} */ { lastResponse }) => resolve(lastResponse.getHeader('Upload-Attachment')),
        onError: reject,
      }).start();
    });
    return { asked, place, sum: [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('') };
  }, { length: BYTES, piece: PIECE, retries: RETRIES });
  assertWentOn(asked);
  assert.equal(await fetched(place), sum);
});
