/** The types that the page and its tests state in JSDoc. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const here = join(import.meta.dirname, '..');
const compiler = join(here, 'node_modules/typescript/bin/tsc');

for (const project of ['jsconfig.page.json', 'jsconfig.json']) {
  test(`${project} has no type error`, async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [compiler, '--project', join(here, project)])
      .catch((/** @type {{stdout: string}} */ failure) => failure);
    assert.equal(stdout, '');
  });
}
