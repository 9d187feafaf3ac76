/**
 * How one file gets to the server: in pieces as large as the connection lets them be, each from where the last one stopped.
 * @module
 */
/** @import { Problem } from '../types.js' */
import * as api from '../api.js';
import { text } from '../strings.js';
import * as tus from './tus.js';

/** Pauses grow from the first to the longest, and so many of them bring nothing on before somebody has to ask for the next one. */
const PAUSES = 10;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/**
 * What one sending knows of the others, and they of it.
 * @typedef {object} Course
 * @property {AbortSignal} signal
 * @property {string | null} place  where the upload is, if it has begun
 * @property {(place: string | null) => void} placed  it has begun, or is to begin anew
 * @property {() => Promise<void>} begins  it is about to begin, or to begin anew; throws if it must not
 * @property {(part: number) => void} progress  which part of 1 is there
 * @property {(problem: Problem, goOn: () => void) => void} paused  it goes on by itself, or at once by `goOn`
 */

/**
 * Sends a file, or the rest of it. What breaks off goes on by itself, a few times.
 * @param {File} file @param {string} session @param {Course} course @returns {Promise<tus.Kept>}
 * @throws {api.RequestError} why it was not taken, or does not go on by itself any more
 */
export async function send(file, session, course) {
  const sending = new Sending(file, session, course);
  for (;;) {
    try {
      return await sending.goOn();
    } catch (error) {
      course.signal.throwIfAborted();
      await sending.overcome(error);
    }
  }
}

class Sending {
  #file;
  #session;
  #course;
  #place;
  /** The server had so much of it when it was last asked. */
  #reached = 0;
  #pauses = 0;
  #isAnew = false;

  /** @param {File} file @param {string} session @param {Course} course */
  constructor(file, session, course) {
    this.#file = file;
    this.#session = session;
    this.#course = course;
    this.#place = course.place;
  }

  /** Sends what is missing. @returns {Promise<tus.Kept>} */
  async goOn() {
    await assertReadable(this.#file);
    const { kept, offset, place } = await this.#stand();
    if (kept) return kept;
    const { signal, progress } = this.#course;
    const { size } = this.#file;
    progress(offset / size);
    if (offset < size) await tus.push(place, this.#file.slice(offset), offset, signal, (bytes) => progress(Math.min(1, (offset + bytes) / size)));
    progress(1);
    const end = await tus.look(place, signal);
    if (end.kept) return end.kept;
    throw new api.RequestError({ status: 409, code: 'upload-incomplete', detail: text.files.brokenOff, retryAfter: null });
  }

  /** Where it is and how far it has come; it begins if it has not. */
  async #stand() {
    const { signal } = this.#course;
    if (this.#place === null) {
      await this.#course.begins();
      signal.throwIfAborted();
      // Not to be cut off: what the server began must not be left there.
      const place = await tus.begin(this.#file, this.#session);
      this.#move(place);
      signal.throwIfAborted();
      return { kept: null, offset: 0, place };
    }
    const { kept, offset } = await tus.look(this.#place, signal);
    if (offset > this.#reached) [this.#reached, this.#pauses] = [offset, 0];
    return { kept, offset, place: this.#place };
  }

  /** @param {string | null} place */
  #move(place) {
    this.#place = place;
    this.#course.placed(place);
  }

  /** Comes back when it may be worth another try. @param {unknown} error @returns {Promise<void>} */
  async overcome(error) {
    const problem = api.problemOf(error);
    if (problem.code === 'upload-not-found' && this.#place !== null) {
      // It was too old, or was refused and the reply got lost: then the next refusal tells why.
      try {
        await this.#course.begins();
      } catch (unsure) {
        return this.overcome(unsure);
      }
      this.#move(null);
      if (this.#isAnew) throw error;
      [this.#isAnew, this.#reached] = [true, 0];
      return;
    }
    if (!passes(problem) || this.#pauses === PAUSES) throw error;
    await pause(problem, this.#pauses, this.#course);
    // Without a network it is not the server's fault.
    if (navigator.onLine) this.#pauses += 1;
  }
}

/** A file may have been moved since it was chosen, or be a folder; the request would not say which. @param {File} file */
async function assertReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new api.RequestError({ status: 0, code: 'file-unreadable', detail: text.files.unreadable, retryAfter: null });
  }
}

/** Whether it may go on by itself after a while. @param {Problem} problem */
export const passes = ({ status, code }) => code !== 'file-unreadable' && ([0, 408, 409, 423, 429, 460].includes(status) || status >= 500);

/** @param {Problem} problem @param {number} before  pauses that were made already @param {Course} course @returns {Promise<void>} */
function pause(problem, before, { signal, paused }) {
  // Spread over half to whole, so that all pages do not come back in the same instant.
  const grown = Math.min(FIRST_PAUSE_MS * 2 ** before, LONGEST_PAUSE_MS) * (0.5 + Math.random() / 2);
  // A server on this machine can be reached without a network, so it is tried all the same.
  const ownMs = navigator.onLine ? grown : LONGEST_PAUSE_MS;
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener('online', goOn);
      signal.removeEventListener('abort', stop);
    };
    const goOn = () => {
      end();
      resolve();
    };
    const stop = () => {
      end();
      reject(signal.reason);
    };
    const timer = setTimeout(goOn, Math.max(ownMs, 1000 * (problem.retryAfter ?? 0)));
    addEventListener('online', goOn);
    signal.addEventListener('abort', stop);
    paused(problem, goOn);
  });
}
