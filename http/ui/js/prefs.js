/**
 * What this browser remembers: choices, drafts and messages that could not be sent.
 * A browser that refuses storage loses only the memory, never the page.
 * @module
 */

const PREFIX = 'soma.';

/** @param {string} name @returns {string | null} */
export function read(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

/** @param {string} name @param {string | null} value  null or empty forgets */
export function write(name, value) {
  try {
    if (value) localStorage.setItem(PREFIX + name, value);
    else localStorage.removeItem(PREFIX + name);
  } catch {
    // Storage is full or refused: the page goes on without it.
  }
}

/** Follows what other pages of this browser write. @param {string} name @param {(value: string | null) => void} run */
export const follow = (name, run) => addEventListener('storage', ({ key, newValue }) => {
  if (key === PREFIX + name) run(newValue);
});

/** @returns {'system' | 'light' | 'dark'} */
export function theme() {
  const chosen = read('theme');
  return chosen === 'light' || chosen === 'dark' ? chosen : 'system';
}

/** @param {string} name @returns {any[]} */
function readList(name) {
  try {
    const list = JSON.parse(read(name) ?? '[]');
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

/** @param {string} name @param {readonly unknown[]} list */
const writeList = (name, list) => write(name, list.length > 0 ? JSON.stringify(list) : null);

/** @typedef {{id: string, name: string, size: number, type: string}} DraftFile */

/** Files that are on the server and belong to a message of a session that is being written. @param {string} session @returns {DraftFile[]} */
export const files = (session) => readList(`files.${session}`);

/** @param {string} session @param {readonly DraftFile[]} list */
export const keepFiles = (session, list) => writeList(`files.${session}`, list);

/** Notes whether files of a message of a session that is being written are still on their way. @param {string} session @param {boolean} areThey */
export const noteUnderWay = (session, areThey) => write(`way.${session}`, areThey ? 'yes' : null);

/** A new conversation got its address before its first message: what was typed goes along. @param {string} session */
export function settleDraft(session) {
  write(`draft.${session}`, read('draft.new'));
  write('draft.new', null);
  write('settled', session);
}

/** The new conversation that has an address and something for its first message, if there is one. @returns {string | null} */
export function settled() {
  const session = read('settled');
  const isBegun = files(session ?? '').length > 0 || ['draft', 'way'].some((name) => read(`${name}.${session}`) !== null);
  return session !== null && isBegun ? session : null;
}

/** A conversation has its first message. @param {string} session */
export function endSettled(session) {
  if (read('settled') === session) write('settled', null);
}

/** @typedef {{key: string, text: string, attachments?: string[], problem?: import('./types.js').Problem}} Unsent  attachments by their ids */

/**
 * Messages of a session that were typed and sent but never acknowledged.
 * @param {string} session @returns {Unsent[]}
 */
export const unsent = (session) => readList(`unsent.${session}`);

/** @param {string} session @param {Unsent} message @returns {boolean} whether it is kept */
export function keepUnsent(session, message) {
  const others = unsent(session).filter((other) => other.key !== message.key);
  writeList(`unsent.${session}`, [...others, message]);
  return unsent(session).some((one) => one.key === message.key);
}

/**
 * Keeps why a message was not accepted.
 * @param {string} session @param {string} key @param {import('./types.js').Problem} problem
 */
export function noteUnsent(session, key, problem) {
  const noted = unsent(session).map((message) => (message.key === key ? { ...message, problem } : message));
  writeList(`unsent.${session}`, noted);
}

/** Forgets what was typed for a session that is gone. @param {string} session */
export function forget(session) {
  write(`draft.${session}`, null);
  write(`unsent.${session}`, null);
  write(`files.${session}`, null);
  write(`way.${session}`, null);
}

/** What of this storage was typed or added by somebody. */
const TYPED = ['draft.', 'unsent.', 'files.', 'way.', 'settled'].map((name) => PREFIX + name);

/** Forgets everything that was typed in this browser and is not on the server. */
export function forgetTyped() {
  try {
    const typed = Object.keys(localStorage).filter((name) => TYPED.some((start) => name.startsWith(start)));
    for (const name of typed) localStorage.removeItem(name);
  } catch {
    // What was refused at first is not there.
  }
}

const ON_WAY = `${PREFIX}on-way`;

/**
 * A draft on the way to the provider and back, in the storage of its tab: another tab may have written another one under the same
 * name since.
 * @typedef {{name: string, draft: string, owner: string | null}} OnWay
 */

/** @param {OnWay} kept */
export function keepOnWay(kept) {
  try {
    sessionStorage.setItem(ON_WAY, JSON.stringify(kept));
  } catch {
    // The draft was written when it was typed.
  }
}

/** Whether this tab has been on that way. */
export function isWayTaken() {
  try {
    return sessionStorage.getItem(ON_WAY) !== null;
  } catch {
    return false;
  }
}

/** What this tab kept, once. @returns {OnWay | null} */
export function takeFromWay() {
  try {
    const kept = sessionStorage.getItem(ON_WAY);
    sessionStorage.removeItem(ON_WAY);
    return kept && JSON.parse(kept);
  } catch {
    return null;
  }
}

/** @param {string} session @param {string} key */
export function dropUnsent(session, key) {
  writeList(`unsent.${session}`, unsent(session).filter((other) => other.key !== key));
}
