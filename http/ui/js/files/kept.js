/**
 * What the server keeps: the facts about attachments, asked for when somebody looks at them.
 * @module
 */
import * as api from '../api.js';
import { nameIn } from './words.js';

/** @typedef {{name: string, size: number, type: string}} FileFacts */

/** @type {Map<string, Promise<FileFacts>>} */
const known = new Map();

/** Keeps what this page has learnt by itself. @param {string} id @param {FileFacts} facts */
export function know(id, facts) {
  known.set(id, Promise.resolve(facts));
}

/**
 * What an attachment is. What could not be learnt is asked for again the next time.
 * @param {string} id @returns {Promise<FileFacts>}
 * @throws {api.RequestError} why there is none: gone, quarantined, not there for this person
 */
export function facts(id) {
  const before = known.get(id);
  if (before) return before;
  const asked = ask(id).catch((error) => {
    known.delete(id);
    throw error;
  });
  known.set(id, asked);
  return asked;
}

/** @param {string} id */
async function ask(id) {
  const { headers } = await api.attachment(id);
  return {
    name: nameIn(headers.get('Content-Disposition') ?? ''),
    size: Number(/\/(\d+)$/.exec(headers.get('Content-Range') ?? '')?.[1] ?? headers.get('Content-Length') ?? 0),
    type: headers.get('Content-Type') ?? '',
  };
}
