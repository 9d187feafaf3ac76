/**
 * What comes about by itself is asked for until it is there: no test knows how fast a machine is.
 * @module
 */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';

/** Longer than anything takes on a slow machine: only what never comes is waited for this long. */
export const PATIENCE_MS = 60_000;
const EVERY_MS = 50;

/**
 * Asks until the answer is the expected one; if it never is, fails with how the last answer differs.
 * @template T
 * @param {() => T | Promise<T>} read
 * @param {T} expected
 */
export async function eventually(read, expected) {
  const end = Date.now() + PATIENCE_MS;
  let found = await read();
  while (!isDeepStrictEqual(found, expected) && Date.now() < end) {
    await delay(EVERY_MS);
    found = await read();
  }
  assert.deepEqual(found, expected);
}

/**
 * Asks until the answer is yes.
 * @param {string} what  for the message of the failure
 * @param {() => boolean | Promise<boolean>} read
 */
export async function until(what, read) {
  await eventually(async () => ((await read()) ? what : `not: ${what}`), what);
}
