/**
 * A real clamd that knows one signature: EICAR's test string.
 * @module
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { until } from './eventually.js';
import { freePort } from './server.js';

/** EICAR's test string, put together: whole, scanners would find it in this file. */
export const EICAR = ['X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR', 'STANDARD-ANTIVIRUS-TEST-FILE!$H+H*'].join('-');

export class Clamd {
  #folder = '';
  /** @type {import('node:child_process').ChildProcess | null} */
  #child = null;
  #port = 0;

  /** The one that `SA01_TEST_CLAMD` names (host:port), else one of our own. */
  static async start() {
    const clamd = new Clamd();
    if (!process.env.SA01_TEST_CLAMD) await clamd.#start();
    return clamd;
  }

  /** What the binary is given to find this one. */
  get env() {
    const [host, port] = (process.env.SA01_TEST_CLAMD ?? `127.0.0.1:${this.#port}`).split(':');
    return { CLAMAV_ENABLED: 'true', CLAMAV_HOST: host, CLAMAV_PORT: port };
  }

  async #start() {
    const program = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'].map((folder) => join(folder, 'clamd')).find(existsSync);
    if (!program) throw new Error('clamd is missing: install the package clamav-daemon, or set SA01_TEST_CLAMD');
    this.#folder = await mkdtemp(join(tmpdir(), 'soma-clamd-'));
    this.#port = await freePort();
    await mkdir(join(this.#folder, 'db'));
    await writeFile(join(this.#folder, 'db/local.ndb'), `Eicar-Test-Signature:0:*:${Buffer.from(EICAR).toString('hex')}\n`);
    await writeFile(join(this.#folder, 'conf'), [
      ...(process.getuid?.() === 0 ? ['User root'] : []),
      'Foreground yes', `TCPSocket ${this.#port}`, 'TCPAddr 127.0.0.1', `DatabaseDirectory ${this.#folder}/db`,
      `TemporaryDirectory ${this.#folder}`, 'AlertExceedsMax yes', 'StreamMaxLength 100M', '',
    ].join('\n'));
    this.#child = spawn(program, ['--config-file', join(this.#folder, 'conf')], { stdio: 'ignore' });
    await until('clamd listens', () => this.#listens());
  }

  /** @returns {Promise<boolean>} */
  #listens() {
    return new Promise((told) => {
      const probe = connect(this.#port, '127.0.0.1');
      probe.on('connect', () => told(true)).on('error', () => told(false)).on('connect', () => probe.end());
    });
  }

  async stop() {
    if (this.#child === null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
    await rm(this.#folder, { recursive: true, force: true });
  }
}
