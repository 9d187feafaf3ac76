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

/** @returns {'system' | 'light' | 'dark'} */
export function theme() {
  const chosen = read('theme');
  return chosen === 'light' || chosen === 'dark' ? chosen : 'system';
}

/** @typedef {{key: string, text: string, problem?: import('./types.js').Problem}} Unsent */

/**
 * Messages of a session that were typed and sent but never acknowledged.
 * @param {string} session @returns {Unsent[]}
 */
export function unsent(session) {
  try {
    const list = JSON.parse(read(`unsent.${session}`) ?? '[]');
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

/** @param {string} session @param {Unsent} message */
export function keepUnsent(session, message) {
  const others = unsent(session).filter((other) => other.key !== message.key);
  write(`unsent.${session}`, JSON.stringify([...others, message]));
}

/**
 * Keeps why a message was not accepted.
 * @param {string} session @param {string} key @param {import('./types.js').Problem} problem
 */
export function noteUnsent(session, key, problem) {
  const noted = unsent(session).map((message) => (message.key === key ? { ...message, problem } : message));
  if (noted.length > 0) write(`unsent.${session}`, JSON.stringify(noted));
}

/** Forgets what was typed for a session that is gone. @param {string} session */
export function forget(session) {
  write(`draft.${session}`, null);
  write(`unsent.${session}`, null);
}

/** Forgets everything that was typed in this browser and is not on the server. */
export function forgetTyped() {
  try {
    const typed = Object.keys(localStorage).filter((name) => name.startsWith(`${PREFIX}draft.`) || name.startsWith(`${PREFIX}unsent.`));
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
  const left = unsent(session).filter((other) => other.key !== key);
  write(`unsent.${session}`, left.length > 0 ? JSON.stringify(left) : null);
}
