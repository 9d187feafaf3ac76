/**
 * Addresses: `/` is a new conversation, `/s/<session_id>` an existing one.
 * @module
 */

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** @typedef {{kind: 'new'} | {kind: 'session', id: string} | {kind: 'unknown'}} Place */

/** @param {string} path @returns {Place} */
export function place(path) {
  if (path === '/' || path === '/ui/index.html') return { kind: 'new' };
  const id = /^\/s\/([^/]+)$/.exec(path)?.[1];
  return id && UUID.test(id) ? { kind: 'session', id: id.toLowerCase() } : { kind: 'unknown' };
}

/** @param {string} id */
export const pathOf = (id) => `/s/${id}`;

/**
 * What the text is kept under that is typed at an address. Conversations without a message have a new id each time, so all of
 * these share one.
 * @param {string} path
 */
export function draftName(path) {
  const to = place(path);
  return to.kind === 'session' ? `draft.${to.id}` : 'draft.new';
}

/**
 * Where somebody goes to sign in and be sent back to a page: one of these pages, whatever was asked for.
 * @param {string} path
 */
export function signInAddress(path) {
  const to = place(path);
  return to.kind === 'session' ? `/v1/auth/login?${new URLSearchParams({ next: pathOf(to.id) })}` : '/v1/auth/login';
}

/** @param {string} path @param {'push' | 'replace'} how */
export function go(path, how = 'push') {
  if (location.pathname === path) return;
  if (how === 'push') history.pushState(null, '', path);
  else history.replaceState(null, '', path);
}

/** @returns {string} a random UUID, also on plain HTTP, where `crypto.randomUUID` is missing */
export function newId() {
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
