/**
 * How one file gets to the server: in one request, with the session that it belongs to.
 * @module
 */
import * as api from '../api.js';
import { text } from '../strings.js';
import { shown } from './words.js';

/**
 * What the server says of a file that it keeps.
 * @typedef {{id: string, filename: string, mime: string, size: number, status: 'clean' | 'quarantined', quarantine_reason: string | null}} Kept
 */

/** @typedef {{signal: AbortSignal, progress: (part: number) => void}} Course `progress` is told which part of 1 has gone out */

/**
 * Sends a file. If this is aborted, or breaks off, the server keeps nothing of it.
 * @param {File} file @param {string} session @param {Course} course @returns {Promise<Kept>}
 * @throws {api.RequestError} why it was not taken
 */
export async function send(file, session, course) {
  await assertReadable(file);
  return api.proven((proof) => post(file, session, course, proof));
}

/** A file may have been moved since it was chosen, or be a folder; the request would not say which. @param {File} file */
async function assertReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new api.RequestError({ status: 0, code: 'file-unreadable', detail: text.files.unreadable, retryAfter: null });
  }
}

/**
 * `fetch` does not tell how far a body has come.
 * @param {File} file @param {string} session @param {Course} course @param {Record<string, string>} headers @returns {Promise<Kept>}
 */
function post(file, session, { signal, progress }, headers) {
  const form = new FormData();
  // Before the file, so that the server knows whose it is while it comes.
  form.append('session_id', session);
  form.append('files', file, shown(file.name));
  return new Promise((keep, fail) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    request.open('POST', '/v1/uploads');
    request.responseType = 'json';
    for (const [name, value] of Object.entries({ Accept: 'application/json', ...headers })) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => progress(total > 0 ? loaded / total : 0);
    request.upload.onload = () => progress(1);
    request.onload = () => {
      const { status, response } = request;
      if (status === 200 && response?.[0]) keep(response[0]);
      else fail(new api.RequestError(api.problemFrom(status, response, request.getResponseHeader('Retry-After'))));
    };
    request.onerror = () => fail(new api.RequestError({ status: 0, code: 'unreachable', detail: text.files.brokenOff, retryAfter: null }));
    request.onabort = () => fail(signal.reason);
    signal.addEventListener('abort', () => request.abort(), { once: true });
    request.send(form);
  });
}
