/**
 * The live connection of one session: opens the stream, resumes it by id, waits longer after each
 * failure, and reports every change of its state so that the page can show it.
 * @module
 */
/** @import { Connection, Frame, Problem } from './types.js' */
import { readProblem } from './api.js';
import { blockReader } from './sse.js';

/** Heartbeats come every 20 s; without any byte for this long the connection is dead. */
const SILENCE_MS = 70_000;
const LONGEST_WAIT_MS = 15_000;
const FIRST_WAIT_MS = 500;

/**
 * @typedef {object} Listener
 * @property {(frame: Frame) => void} frame
 * @property {(connection: Connection) => void} connection
 * @property {(problem: Problem) => void} refused  the server said no for good; the stream ends
 */

export class SessionStream {
  #id;
  #after;
  #listener;
  /** @type {string | null} */
  #lastId = null;
  #failures = 0;
  #baseWait = FIRST_WAIT_MS;
  #ended = false;
  /** @type {AbortController | null} */
  #open = null;
  /** @type {number | undefined} */
  #timer;
  /** @type {number | undefined} */
  #silence;
  #onOnline = () => this.retryNow();
  #onOffline = () => this.#drop({ kind: 'offline' });

  /**
   * @param {string} id @param {number} after  `seq` already known, 0 for none
   * @param {Listener} listener
   */
  constructor(id, after, listener) {
    this.#id = id;
    this.#after = after;
    this.#listener = listener;
    addEventListener('online', this.#onOnline);
    addEventListener('offline', this.#onOffline);
  }

  /** Opens the stream now, whatever it was waiting for. */
  retryNow() {
    if (this.#ended) return;
    clearTimeout(this.#timer);
    this.#open?.abort();
    void this.#connect();
  }

  /** Leaves the server until {@link retryNow}; the place in the stream is kept. */
  park() {
    this.#drop({ kind: 'parked' });
  }

  /** Ends the stream for good. */
  close() {
    this.#ended = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#open?.abort();
    removeEventListener('online', this.#onOnline);
    removeEventListener('offline', this.#onOffline);
  }

  async #connect() {
    const open = new AbortController();
    this.#open = open;
    this.#listener.connection({ kind: 'connecting' });
    try {
      this.#expectBytes(open);
      const response = await fetch(this.#address(), { headers: this.#headers(), signal: open.signal, cache: 'no-store' });
      if (!response.ok || !response.body) return this.#refuse(await readProblem(response));
      this.#failures = 0;
      this.#listener.connection({ kind: 'live' });
      await this.#read(response.body, open);
    } catch {
      // Refused, cut, or given up by this page: the wait below tells which.
    }
    if (this.#open === open && !this.#ended) this.#wait(null);
  }

  #address() {
    const params = new URLSearchParams({ mode: 'html', after: String(this.#after) });
    return `/v1/session/${encodeURIComponent(this.#id)}/events?${params}`;
  }

  /** @returns {Record<string, string>} */
  #headers() {
    return { Accept: 'text/event-stream', ...(this.#lastId === null ? {} : { 'Last-Event-ID': this.#lastId }) };
  }

  /** @param {ReadableStream<Uint8Array>} body @param {AbortController} open */
  async #read(body, open) {
    const reader = body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
    const blocks = blockReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || open.signal.aborted) return;
      this.#expectBytes(open);
      for (const block of blocks(/** @type {string} */ (value))) this.#take(block);
    }
  }

  /** @param {import('./sse.js').Block} block */
  #take(block) {
    // A frame may have ended the stream, such as a reset: what came with it is read again.
    if (this.#ended) return;
    if (block.retry !== null) this.#baseWait = Math.max(100, Math.min(block.retry, LONGEST_WAIT_MS));
    if (block.data === '') return;
    this.#listener.frame({ id: block.id, event: JSON.parse(block.data) });
    // Noted only after the frame was applied: one that could not be is asked for again.
    if (block.id !== null) this.#lastId = block.id;
  }

  /** @param {AbortController} open */
  #expectBytes(open) {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => open.abort(), SILENCE_MS);
  }

  /** @param {Problem} problem */
  #refuse(problem) {
    const forGood = problem.status >= 400 && problem.status < 500 && problem.status !== 429 && problem.status !== 408;
    if (!forGood && problem.code !== 'sse-disabled') return this.#wait(problem.retryAfter);
    this.close();
    this.#listener.connection({ kind: problem.status === 401 ? 'signed-out' : 'closed' });
    this.#listener.refused(problem);
  }

  /** @param {number | null} seconds  what the server asked for, if it did */
  #wait(seconds) {
    clearTimeout(this.#silence);
    if (!navigator.onLine) return this.#listener.connection({ kind: 'offline' });
    const grown = Math.min(this.#baseWait * 2 ** this.#failures, LONGEST_WAIT_MS);
    this.#failures += 1;
    // Spread over half to whole, so that all pages do not come back in the same instant.
    const delay = seconds === null ? grown * (0.5 + Math.random() / 2) : seconds * 1000;
    this.#listener.connection({ kind: 'waiting', until: Date.now() + delay });
    this.#timer = setTimeout(() => this.retryNow(), delay);
  }

  /** @param {Connection} connection */
  #drop(connection) {
    if (this.#ended) return;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    const open = this.#open;
    this.#open = null;
    open?.abort();
    this.#listener.connection(connection);
  }
}
