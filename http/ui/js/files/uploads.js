/**
 * The files of messages that are being written: on their way to the server, judged by it, or refused.
 * @module
 */
/** @import { Problem, Upload } from '../types.js' */
import * as api from '../api.js';
import * as prefs from '../prefs.js';
import { go, newId, pathOf, place } from '../route.js';
import { current, update } from '../store.js';
import { text } from '../strings.js';
import * as kept from './kept.js';
import { admit, limits } from './limits.js';
import { send } from './transport.js';
import { said } from './words.js';

/** So many go at a time; the others wait. */
const AT_ONCE = 3;
/** Refusals that come of limits which the page does not know of. */
const LIMITS_MOVED = new Set(['uploads-disabled', 'file-too-large', 'inline-cap-exceeded', 'mime-not-allowed']);

/** What the state cannot hold: the files themselves, and how to end what sends them. @type {Map<string, {file: File, way: AbortController}>} */
const held = new Map();

/** The file of an upload that this page was given, if it still has it. @param {string} key */
export const fileOf = (key) => held.get(key)?.file ?? null;

/** The files of the next message of a session, in the order in which they were added. @param {readonly Upload[]} uploads @param {string} session */
export const ofSession = (uploads, session) => uploads.filter((upload) => upload.session === session);

/** Whether a file has not come to its end. @param {Upload} upload */
export const isUnderWay = ({ phase }) => phase === 'waiting' || phase === 'sending' || phase === 'checking';

/** Whether a file cannot go with a message, as it is. @param {Upload} upload */
export const isRefused = ({ phase }) => phase === 'refused' || phase === 'quarantined';

/** @param {Problem} problem whether the same file may be taken another time */
export const canRetry = ({ status, code }) => code !== 'file-unreadable' && (status === 0 || status === 401 || status === 408 || status === 429 || status >= 500);

/** @param {string} line  for who cannot see the page */
const announce = (line) => update({ announced: { line } });

/** @param {string} key @param {Partial<Upload>} change */
function patch(key, change) {
  update({ uploads: current().uploads.map((upload) => (upload.key === key ? { ...upload, ...change } : upload)) });
}

/** Adds files to the next message of the open conversation. @param {readonly File[]} files @param {readonly string[]} [folders]  names of what is no file */
export function add(files, folders = []) {
  const { conversation: { id }, config, uploads } = current();
  const { taken, reasons } = admit(files, ofSession(uploads, id).length, limits(config));
  reasons.push(...folders.map((name) => text.files.notAdded(said(name), text.files.folder)));
  update({ uploads: [...uploads, ...taken.map((file) => begun(file, id))], unadded: reasons.length > 0 ? { session: id, reasons } : null });
  announce([...(taken.length > 0 ? [text.files.added(taken.map(({ name }) => said(name)))] : []), ...reasons].join(' '));
  if (taken.length > 0) settle(id);
  sendWaiting();
}

/** @param {File} file @param {string} session @returns {Upload} */
function begun(file, session) {
  const key = newId();
  held.set(key, { file, way: new AbortController() });
  return { key, session, name: file.name, size: file.size, type: file.type, phase: 'waiting', sent: 0, id: null, reason: null, problem: null };
}

/** A new conversation has its own address from its first file on: files belong to a session. @param {string} id */
function settle(id) {
  if (place(location.pathname).kind !== 'new') return;
  prefs.settleDraft(id);
  go(pathOf(id), 'replace');
}

function sendWaiting() {
  const { uploads } = current();
  const free = AT_ONCE - uploads.filter(({ phase }) => phase === 'sending' || phase === 'checking').length;
  for (const upload of uploads.filter(({ phase }) => phase === 'waiting').slice(0, Math.max(free, 0))) void run(upload);
}

/** @param {Upload} upload */
async function run({ key, session, name }) {
  const own = held.get(key);
  if (!own) return;
  patch(key, { phase: 'sending', sent: 0, problem: null, reason: null });
  try {
    const { id, filename, mime, size, status, quarantine_reason: reason } = await send(own.file, session, {
      signal: own.way.signal,
      progress: (part) => patch(key, { sent: part, phase: part < 1 ? 'sending' : 'checking' }),
    });
    const isClean = status === 'clean';
    if (isClean) kept.know(id, { name: filename, size, type: mime });
    patch(key, { phase: isClean ? 'clean' : 'quarantined', id, name: filename, type: mime, size, reason });
    announce(isClean ? text.files.came(said(filename)) : text.files.refused(said(filename), text.files.quarantine(reason)));
    keepDraft(session);
  } catch (error) {
    if (!own.way.signal.aborted) fail(key, name, api.problemOf(error));
  }
  sendWaiting();
}

/** @param {string} key @param {string} name @param {Problem} problem */
function fail(key, name, problem) {
  patch(key, { phase: 'refused', problem });
  announce(text.files.refused(said(name), problem.detail));
  if (problem.status === 401) update({ connection: { kind: 'signed-out' } });
  if (LIMITS_MOVED.has(problem.code)) void lookAgain();
}

/** Learns what files are held to now. Without an answer what was known stays. */
const lookAgain = () => api.config(true).then((config) => update({ config }), () => {});

/** Sends a file again that was not taken. @param {string} key */
export function retry(key) {
  patch(key, { phase: 'waiting', sent: 0, problem: null, reason: null });
  sendWaiting();
}

/** Takes a file out of the message, whatever has become of it. @param {string} key */
export function remove(key) {
  const upload = current().uploads.find((one) => one.key === key);
  if (!upload) return;
  drop([upload]);
  announce(text.files.removed(said(upload.name)));
}

/** @param {readonly Upload[]} gone */
function drop(gone) {
  for (const { key } of gone) {
    held.get(key)?.way.abort();
    held.delete(key);
  }
  update({ uploads: current().uploads.filter((upload) => !gone.includes(upload)) });
  for (const session of new Set(gone.map(({ session }) => session))) keepDraft(session);
  sendWaiting();
}

/** Gives out the attachments of a message that is sent now. @param {string} session @returns {string[]} their ids */
export function take(session) {
  const mine = ofSession(current().uploads, session);
  drop(mine);
  update({ unadded: null });
  return mine.flatMap(({ phase, id }) => (phase === 'clean' && id !== null ? [id] : []));
}

/** What came whole is kept over a reload. @param {string} session */
function keepDraft(session) {
  const clean = ofSession(current().uploads, session).filter(({ phase }) => phase === 'clean');
  prefs.keepFiles(session, clean.map(({ id, name, size, type }) => ({ id: /** @type {string} */ (id), name, size, type })));
}

/** Brings back what a closed page left in the draft of a session. @param {string} session */
export function restore(session) {
  const { uploads } = current();
  if (ofSession(uploads, session).length > 0) return;
  const files = prefs.files(session);
  for (const { id, ...facts } of files) kept.know(id, facts);
  update({ uploads: [...uploads, ...files.map((file) => ({ key: newId(), session, phase: /** @type {const} */ ('clean'), sent: 1, reason: null, problem: null, ...file }))] });
}

/** Ends what goes to a session that is gone. @param {string} session */
export function forget(session) {
  drop(ofSession(current().uploads, session));
}

/** Follows what operators change, and asks before a page is closed that still sends. */
export function watchUploads() {
  addEventListener('focus', () => void lookAgain());
  addEventListener('beforeunload', (event) => {
    if (current().uploads.some(isUnderWay)) event.preventDefault();
  });
}
