/**
 * The built binary as a child process on a data folder of its own.
 * @module
 */
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const BINARY = resolve(process.env.SOMAAGENT_BIN ?? join(import.meta.dirname, '../../../target/debug/somaagent'));
const READY_MS = 180_000;
const STOP_MS = 30_000;
const LINES_KEPT = 200;

/**
 * Below the range from which systems take the ports of outgoing connections: such a connection could otherwise sit on the
 * port of a server that is down for a moment.
 */
const FIRST_PORT = 12_000;
const PORTS = 20_000;

/** @returns {Promise<number>} a port nobody listens on now */
export async function freePort() {
  for (;;) {
    const port = FIRST_PORT + randomInt(PORTS);
    const probe = createServer();
    const isFree = await new Promise((resolve) => {
      probe.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    probe.close();
    await once(probe, 'close');
    return port;
  }
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
      // A busy machine may take its time to start.
      SA01_BOOT__STEP_MS: '120000',
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
      let said = '';
      child.stdout.setEncoding('utf8').on('data', (text) => {
        this.#keep(text);
        said += text;
        // What comes in pieces is an address once something follows it.
        const url = /(http:\/\/[^\s/]+)[\s/]/.exec(said)?.[1];
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
