/**
 * Single requests of tus 1.0.0 (https://tus.io/protocols/resumable-upload), as this server speaks it.
 * @module
 */
import * as api from '../api.js';
import { text } from '../strings.js';
import { shown } from './words.js';

const PATH = '/v1/uploads/tus';
const VERSION = { 'Tus-Resumable': '1.0.0' };
/** A request in which nothing moves for this long is dead. */
const STILL_MS = 60_000;
/** So much of a name goes out; the server keeps less. */
const NAME_LETTERS = 400;
const END_LETTERS = 40;

/**
 * What the server says of a file that it keeps.
 * @typedef {{id: string, filename: string, mime: string, size: number, status: 'clean' | 'quarantined', quarantine_reason: string | null}} Kept
 */

/** @typedef {{signal?: AbortSignal, headers?: Record<string, string>, body?: Blob, progress?: (bytes: number) => void}} Sent */

/**
 * Begins the upload of a file.
 * @param {File} file @param {string} session @returns {Promise<string>} where it is
 * @throws {api.RequestError}
 */
export async function begin(file, session) {
  const said = [['filename', name(file)], ['filetype', /^[ -~]{1,255}$/.test(file.type) ? file.type : ''], ['session_id', session]];
  const metadata = said.filter(([, value]) => value !== '').map(([key, value]) => `${key} ${base64(value)}`).join(',');
  const { location } = await changing('POST', PATH, { headers: { 'Upload-Length': String(file.size), 'Upload-Metadata': metadata } });
  return location;
}

/**
 * How far an upload has come, and what it has become. One that has come whole is looked through now, if that was cut off. `HEAD` would
 * tell the same, but not why something is refused.
 * @param {string} place @param {AbortSignal} [signal] @returns {Promise<{offset: number, kept: Kept | null}>}
 * @throws {api.RequestError}
 */
export async function look(place, signal) {
  const { offset, body } = await request('GET', place, { signal });
  const kept = body?.download_url ? { ...body, mime: body.mime_type } : null;
  return { offset, kept };
}

/**
 * Goes on with an upload.
 * @param {string} place @param {Blob} rest  what is missing from `offset` on
 * @param {number} offset @param {AbortSignal} signal @param {(bytes: number) => void} progress  how much of it has gone out
 * @throws {api.RequestError}
 */
export async function push(place, rest, offset, signal, progress) {
  const headers = { 'Upload-Offset': String(offset), 'Content-Type': 'application/offset+octet-stream' };
  await changing('PATCH', place, { signal, headers, body: rest, progress });
}

/**
 * Takes an upload away, and what it has become, as far as the server can be reached.
 * @param {string} place
 */
export async function end(place) {
  try {
    // All of it may be there, whatever this page has seen. Not in the words of tus, which would have it finished.
    const { id, status } = await api.request(place).then((reply) => reply.json(), () => ({}));
    await Promise.all([
      api.request(place, { method: 'DELETE', headers: VERSION, keepalive: true }),
      // What is quarantined is left to those who decide about it.
      ...(id && status === 'clean' ? [api.removeAttachment(id)] : []),
    ]);
  } catch {
    // The server gives it up by itself in a day.
  }
}

/** @param {File} file */
function name(file) {
  const letters = [...shown(file.name)];
  return letters.length <= NAME_LETTERS ? letters.join('') : [...letters.slice(0, NAME_LETTERS - END_LETTERS), ...letters.slice(-END_LETTERS)].join('');
}

/** @param {string} value @returns {string} its UTF-8 */
const base64 = (value) => btoa(String.fromCharCode(...new TextEncoder().encode(value)));

/** @param {string} method @param {string} place @param {Sent} sent */
const changing = (method, place, sent) => api.proven((proof) => request(method, place, { ...sent, headers: { ...proof, ...sent.headers } }));

/**
 * `fetch` does not tell how far a body has come.
 * @param {string} method @param {string} place @param {Sent} sent
 * @returns {Promise<{offset: number, location: string, body: any}>}
 */
function request(method, place, { signal, headers, body, progress }) {
  return new Promise((answer, fail) => {
    signal?.throwIfAborted();
    const sent = new XMLHttpRequest();
    /** @type {number | undefined} */
    let still;
    const moved = () => {
      clearTimeout(still);
      still = setTimeout(() => sent.abort(), STILL_MS);
    };
    const giveUp = () => sent.abort();
    sent.open(method, place);
    sent.responseType = 'json';
    for (const [key, value] of Object.entries({ Accept: 'application/json', ...VERSION, ...headers })) sent.setRequestHeader(key, value);
    if (progress) {
      sent.upload.onprogress = ({ loaded }) => {
        moved();
        progress(loaded);
      };
    }
    sent.onprogress = moved;
    sent.onload = () => {
      const { status, response } = sent;
      if (status >= 200 && status < 300) {
        answer({ offset: Number(sent.getResponseHeader('Upload-Offset')), location: sent.getResponseHeader('Location') ?? '', body: response });
      } else fail(new api.RequestError(api.problemFrom(status, response, sent.getResponseHeader('Retry-After'))));
    };
    sent.onerror = () => fail(brokenOff());
    sent.onabort = () => fail(signal?.aborted ? signal.reason : brokenOff());
    sent.onloadend = () => {
      clearTimeout(still);
      signal?.removeEventListener('abort', giveUp);
      removeEventListener('offline', giveUp);
    };
    signal?.addEventListener('abort', giveUp);
    // What is under way without a network would be noticed only when nothing has moved for long.
    addEventListener('offline', giveUp);
    moved();
    sent.send(body);
  });
}

const brokenOff = () => new api.RequestError({ status: 0, code: 'unreachable', detail: text.files.brokenOff, retryAfter: null });
