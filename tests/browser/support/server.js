/**
 * The built binary as a child process on a data folder of its own.
 * @module
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const BINARY = resolve(process.env.SOMAAGENT_BIN ?? join(import.meta.dirname, '../../../target/debug/somaagent'));
const READY_MS = 60_000;
const STOP_MS = 15_000;
const LINES_KEPT = 200;

/** @returns {Promise<number>} a port nobody listens on now */
export async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (probe.address());
  probe.close();
  await once(probe, 'close');
  return port;
}

export class Server {
  #env;
  /** @type {import('node:child_process').ChildProcess | null} */
  #child = null;
  /** @type {string[]} */
  #log = [];
  /** Where the page is served. */
  url = '';

  /** @param {Record<string, string>} env */
  constructor(env) {
    this.#env = env;
  }

  /**
   * Starts the binary with nothing configured but `env`.
   * @param {Record<string, string>} [env]
   */
  static async start(env = {}) {
    const server = new Server({
      SA01_DATA_DIR: await mkdtemp(join(tmpdir(), 'soma-page-')),
      GATEWAY_PORT: String(await freePort()),
      GATEWAY_METRICS_PORT: '0',
      SA01_RESPONDER__TOKEN_DELAY_MS: '5',
      ...env,
    });
    await server.again();
    return server;
  }

  /** Starts the process, also after it was killed: same port, same data. */
  async again() {
    const { PATH, HOME, TMPDIR } = process.env;
    const inherited = Object.fromEntries(Object.entries({ PATH, HOME, TMPDIR }).filter(([, value]) => value !== undefined));
    const child = spawn(BINARY, [], { env: { ...inherited, ...this.#env }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text) => this.#keep(text));
    const gone = new AbortController();
    try {
      this.url = await Promise.race([
        this.#announced(child),
        once(child, 'exit', { signal: gone.signal }).then(([code]) => Promise.reject(this.#failure(`ended with code ${code} before it was ready`))),
        delay(READY_MS, null, { signal: gone.signal }).then(() => Promise.reject(this.#failure('is not ready in time'))),
      ]);
    } finally {
      gone.abort();
    }
  }

  /** @param {import('node:child_process').ChildProcessByStdio<null, import('node:stream').Readable, import('node:stream').Readable>} child @returns {Promise<string>} the first address the process prints */
  #announced(child) {
    return new Promise((found) => {
      child.stdout.setEncoding('utf8').on('data', (text) => {
        this.#keep(text);
        const url = /http:\/\/[^\s/]+/.exec(text)?.[0];
        if (url) found(url);
      });
    });
  }

  /** Ends the process without a warning, as a power cut would. */
  async kill() {
    await this.#end('SIGKILL');
  }

  /** Asks the process to end, and removes its data. */
  async stop() {
    await this.#end('SIGTERM');
    await rm(this.#env.SA01_DATA_DIR, { recursive: true, force: true });
  }

  /** @param {'SIGKILL' | 'SIGTERM'} signal */
  async #end(signal) {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    const hurry = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await gone;
    clearTimeout(hurry);
  }

  /** @param {string} text */
  #keep(text) {
    this.#log.push(...text.split('\n').filter((line) => line !== ''));
    this.#log.splice(0, this.#log.length - LINES_KEPT);
  }

  /** @param {string} what */
  #failure(what) {
    return new Error(`${BINARY} ${what}\n${this.#log.join('\n')}`);
  }
}
