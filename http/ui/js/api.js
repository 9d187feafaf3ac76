/**
 * Requests to the public HTTP API. Failures are thrown as {@link RequestError} with the server's
 * problem, so that every caller can say what happened.
 * @module
 */
/** @import { Person, Problem, SessionState, SessionSummary, UiConfig } from './types.js' */
import { text } from './strings.js';

/** A request that did not succeed. */
export class RequestError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

/** @param {unknown} error @returns {Problem} */
export function problemOf(error) {
  if (error instanceof RequestError) return error.problem;
  return { status: 0, code: 'unreachable', detail: text.problem.unreachable, retryAfter: null };
}

/** @typedef {{method?: string, body?: unknown, headers?: Record<string, string>, signal?: AbortSignal, keepalive?: boolean}} Options  `keepalive`: also while the page is left */

/**
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<Response>} a response with a 2xx status
 */
export function request(path, options) {
  const { method = 'GET' } = options ?? {};
  return method === 'GET' || method === 'HEAD' ? send(path, options) : proven((proof) => send(path, options, proof));
}

/**
 * Sends what changes something, with the headers that show that it comes from this page.
 * @template T @param {(proof: Record<string, string>) => Promise<T>} post @returns {Promise<T>}
 */
export async function proven(post) {
  try {
    return await post(await csrf());
  } catch (error) {
    if (problemOf(error).code !== 'csrf-token-invalid') throw error;
    // The cookie is gone, or of an earlier login: the server sets it with the page. It may not have wanted it before.
    described = null;
    await fetch('/', { cache: 'no-store' });
    return post(await csrf());
  }
}

/** @param {string} path @param {Options} [options] @param {Record<string, string>} [proof] */
async function send(path, { method = 'GET', body, headers = {}, signal, keepalive } = {}, proof = {}) {
  const response = await fetch(path, {
    method,
    signal,
    keepalive,
    headers: {
      Accept: 'application/json',
      ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      ...proof,
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) throw new RequestError(await readProblem(response));
  return response;
}

/**
 * What shows that a request which changes something comes from this page, if the server wants that. Read anew each time: another
 * page of this browser may have signed somebody in.
 * @returns {Promise<Record<string, string>>}
 */
async function csrf() {
  const name = await config().then(({ csrf_cookie: cookie }) => cookie, () => null);
  const token = name && document.cookie.split('; ').find((cookie) => cookie.startsWith(`${name}=`))?.slice(name.length + 1);
  return token ? { 'X-CSRF-Token': token } : {};
}

/** @param {Response} response @returns {Promise<Problem>} */
export async function readProblem(response) {
  return problemFrom(response.status, await response.json().catch(() => null), response.headers.get('Retry-After'));
}

/** @param {number} status @param {any} body  a problem document, if there is one @param {string | null} retryAfter @returns {Problem} */
export function problemFrom(status, body, retryAfter) {
  const { code: said, type, title, detail: told, errors } = body ?? {};
  const code = said ?? /[^/:]*$/.exec(String(type ?? ''))?.[0] ?? '';
  const known = text.problem.byCode[/** @type {keyof typeof text.problem.byCode} */ (code)];
  const detail = known ?? (typeof told === 'string' ? told : null) ?? title ?? text.problem.status(status);
  return {
    status, code: code || `status-${status}`, detail, retryAfter: Number(retryAfter) || null,
    ...(Array.isArray(errors) ? { places: errors } : {}),
  };
}

/** @param {string} path @param {Options} [options] @returns {Promise<any>} */
const json = async (path, options) => (await request(path, options)).json();

/** @param {string} id */
const session = (id) => `/v1/sessions/${encodeURIComponent(id)}`;

/** @returns {Promise<{components: Record<string, {status: 'ok' | 'degraded' | 'down'} | undefined>}>} */
export const healthz = () => json('/healthz');

/** Who is signed in; null if nobody is. @returns {Promise<Person | null>} */
export async function person() {
  try {
    return await json('/v1/auth/session');
  } catch (error) {
    if (problemOf(error).status === 401) return null;
    throw error;
  }
}

/** Pauses before what was not answered is asked for again. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/**
 * Asks until there is an answer, for what the page must not guess.
 * @template T @param {() => Promise<T>} ask @returns {Promise<T>}
 */
export async function insist(ask) {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      return await ask();
    } catch (error) {
      const waitMs = Math.max(pauseMs, 1000 * (problemOf(error).retryAfter ?? 0));
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
}

/** Ends the login; one that has ended already is no failure. */
export async function signOut() {
  try {
    await request('/v1/auth/logout', { method: 'POST' });
  } catch (error) {
    if (problemOf(error).status !== 401) throw error;
  }
}

/** Ends all logins of whoever is signed in. */
export const signOutEverywhere = () => request('/v1/auth/logins', { method: 'DELETE' });

/** What the server said of itself, or is about to. @type {Promise<UiConfig> | null} */
let described = null;

/** What this server is; it is asked once, unless `anew`. @returns {Promise<UiConfig>} */
export function config(anew = false) {
  if (anew) described = null;
  described ??= json('/ui/config.json').catch((error) => {
    described = null;
    throw error;
  });
  return described;
}

/**
 * @param {string} address  a page's address, from {@link sessionsAddress} or an earlier page
 * @returns {Promise<{items: SessionSummary[], next: string | null}>}
 */
export async function sessions(address) {
  const response = await request(address);
  const link = /<([^>]+)>\s*;[^,]*rel="?next"?/.exec(response.headers.get('Link') ?? '');
  return { items: await response.json(), next: link?.[1] ?? null };
}

/** @param {string} query @param {number} [limit] */
export function sessionsAddress(query, limit = 50) {
  const params = new URLSearchParams({ limit: String(limit), ...(query ? { q: query } : {}) });
  return `/v1/sessions?${params}`;
}

/**
 * @param {string} id @param {number} after @param {number} limit
 * @returns {Promise<{events: import('./types.js').StoredEvent[]}>}
 */
export const events = (id, after, limit) => json(`${session(id)}/events?after=${after}&limit=${limit}&render=html`);

/**
 * The newest events, or the newest ones with a number below `before`; `more` tells whether there are earlier ones.
 * @param {string} id @param {number} count @param {number} [before]
 * @returns {Promise<{events: import('./types.js').StoredEvent[], more: boolean}>}
 */
export const newest = (id, count, before) =>
  json(`${session(id)}/events?last=${count}${before ? `&before=${before}` : ''}&render=html`);

/** @param {string} id @returns {Promise<SessionState>} */
export const state = (id) => json(`${session(id)}/state`);

/** As much as the server tells at a time. @param {string} id @returns {Promise<{history: string, tokens: number, more: boolean}>} */
export const history = (id) => json(`${session(id)}/history?limit=2000`);

/**
 * Safe to repeat with the same key: the server answers a repetition with the first result.
 * @param {string} id @param {import('./types.js').Words} words @param {string} key
 * @returns {Promise<{session_id: string, event_id: string, seq?: number}>}
 */
export const post = (id, { text: message, attachments }, key) => json('/v1/session/message', {
  method: 'POST',
  headers: { 'Idempotency-Key': key },
  body: { session_id: id, message, attachments: attachments.map((one) => `att://${one}`), metadata: { client_message_id: key } },
});

/** Where a file is that was sent. @param {string} id */
export const attachmentPath = (id) => `/v1/attachments/${encodeURIComponent(id)}`;

/** Where its small picture is, if it has one. @param {string} id */
export const thumbnailPath = (id) => `${attachmentPath(id)}/thumbnail`;

/** The head of a file that was sent; why there is none is only in an answer with a body. @param {string} id */
export async function attachment(id) {
  try {
    return await request(attachmentPath(id), { method: 'HEAD' });
  } catch (error) {
    const { status } = problemOf(error);
    if (status < 400 || status >= 500) throw error;
    return request(attachmentPath(id), { headers: { Range: 'bytes=0-0' } });
  }
}

/** Takes a file back that was sent. @param {string} id */
export const removeAttachment = (id) => request(attachmentPath(id), { method: 'DELETE', keepalive: true });

/**
 * Safe to repeat with the same key, as {@link post} is.
 * @param {string} id @param {string} action @param {string} key
 */
export const quickAction = (id, action, key) => json('/v1/session/action', {
  method: 'POST',
  headers: { 'Idempotency-Key': key },
  body: { session_id: id, action, metadata: { client_message_id: key } },
});

/** @param {string} id */
export const stop = (id) => json(`${session(id)}/stop`, { method: 'POST', body: {} });

/** @param {string} id @param {string} title @returns {Promise<SessionSummary>} */
export const rename = (id, title) => json(session(id), { method: 'PATCH', body: { title } });

/** @param {string} id */
export const remove = (id) => json(session(id), { method: 'DELETE' });

/** @param {string} id @param {boolean} paused */
export const pause = (id, paused) => json(`${session(id)}/pause`, { method: 'POST', body: { paused } });

/** @returns {Promise<{actors: import('./elements/soma-actors.js').Row[]}>} */
export const actors = () => json('/v1/admin/actors?limit=500');

/** @returns {Promise<any>} */
export const health = () => json('/v1/health');
