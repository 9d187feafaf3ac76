/**
 * The list of conversations: pages, search, and keeping in step with other pages of this browser.
 * @module
 */
/** @import { SessionSummary, StoredEvent } from './types.js' */
import * as api from './api.js';
import { current, update, updateConversation } from './store.js';

const EVERY_MS = 30_000;
const others = new BroadcastChannel('soma.sessions');

/** Changes of this page that the server has taken. */
let changes = 0;
/** Readings of the list that were begun. */
let readings = 0;

/** Loads the list and keeps it fresh. */
export function keepFresh() {
  void refresh();
  others.onmessage = () => void refresh();
  addEventListener('focus', () => void refresh());
  setInterval(() => {
    if (!document.hidden) void refresh();
  }, EVERY_MS);
}

/** @param {Partial<import('./types.js').SessionList>} patch */
const patchList = (patch) => update({ sessions: { ...current().sessions, ...patch } });

/** Notes a change that the server has taken, and tells the other pages. */
function changed() {
  changes += 1;
  others.postMessage('changed');
}

/**
 * Reads what a change of this page may have made out of date meanwhile, again if it has: an answer that was on its way
 * would take the change back.
 * @template T @param {() => Promise<T>} read @returns {Promise<T>}
 */
export async function readChanged(read) {
  for (;;) {
    const before = changes;
    const found = await read();
    if (changes === before) return found;
  }
}

/** Reads the first page again; rows of later pages stay. Of several readings only the one begun last counts. */
export async function refresh() {
  readings += 1;
  const reading = readings;
  const { query } = current().sessions;
  try {
    const page = await readChanged(() => api.sessions(api.sessionsAddress(query)));
    if (reading !== readings) return;
    const { items, next } = current().sessions;
    const oldest = page.items.at(-1)?.updated_at ?? '';
    const later = page.next ? items.filter((item) => item.updated_at < oldest && !page.items.some((one) => one.session_id === item.session_id)) : [];
    patchList({ items: [...page.items, ...later], next: later.length > 0 ? next : page.next, phase: 'ready' });
    const open = page.items.find((item) => item.session_id === current().conversation.id);
    if (open) updateConversation(open.session_id, (now) => ({ title: open.title ?? now.title, paused: open.paused ?? now.paused }));
  } catch {
    if (reading === readings) patchList({ phase: current().sessions.items.length > 0 ? 'ready' : 'failed' });
  }
}

/** @param {string} query */
export function search(query) {
  patchList({ query, items: query ? current().sessions.items : [], next: null, phase: 'loading' });
  return refresh();
}

export async function loadMore() {
  const { next, query } = current().sessions;
  if (!next) return;
  const page = await api.sessions(next);
  if (current().sessions.query !== query) return;
  const known = new Set(current().sessions.items.map((item) => item.session_id));
  patchList({ items: [...current().sessions.items, ...page.items.filter((item) => !known.has(item.session_id))], next: page.next });
}

/** A message of this page was accepted: its session moves to the top. @param {string} id @param {string | null} title */
export function posted(id, title) {
  changed();
  const { items, query } = current().sessions;
  if (query) return;
  const now = new Date().toISOString();
  const known = items.find((item) => item.session_id === id);
  const top = known ? { ...known, updated_at: now } : { session_id: id, title, created_at: now, updated_at: now };
  patchList({ items: [top, ...items.filter((item) => item.session_id !== id)] });
}

/** An event was stored in a session. @param {string} id @param {StoredEvent} stored */
export function touched(id, stored) {
  const { items } = current().sessions;
  if (!items.some((item) => item.session_id === id)) void refresh();
  else patchRow(id, { last_seq: stored.id, updated_at: stored.occurred_at });
}

/** @param {string} id @param {Partial<SessionSummary>} patch */
function patchRow(id, patch) {
  patchList({ items: current().sessions.items.map((item) => (item.session_id === id ? { ...item, ...patch } : item)) });
}

/** @param {string} id @param {string} title */
export async function rename(id, title) {
  const before = current().sessions.items.find((item) => item.session_id === id)?.title ?? current().conversation.title;
  const show = (/** @type {string | null} */ shown) => {
    patchRow(id, { title: shown });
    updateConversation(id, () => ({ title: shown }));
  };
  show(title);
  try {
    const { title: stored } = await api.rename(id, title);
    changed();
    // It may differ from what was typed; and an answer that came during the request brought the old one.
    show(stored ?? title);
  } catch (error) {
    show(before);
    throw error;
  }
}

/** @param {string} id */
export async function remove(id) {
  await api.remove(id);
  changed();
  patchList({ items: current().sessions.items.filter((item) => item.session_id !== id) });
}

/** @param {string} id @param {boolean} paused */
export async function pause(id, paused) {
  await api.pause(id, paused);
  changed();
  patchRow(id, { paused });
  updateConversation(id, () => ({ paused }));
}

/** @param {string} id @param {1 | -1} step @returns {string | null} the session next to `id` in the list */
export function neighbour(id, step) {
  const { items } = current().sessions;
  const at = items.findIndex((item) => item.session_id === id);
  const to = at < 0 ? 0 : at + step;
  return items[to]?.session_id ?? null;
}
