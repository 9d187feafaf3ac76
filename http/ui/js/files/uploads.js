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
import * as shelf from './shelf.js';
import { passes, send } from './transport.js';
import * as tus from './tus.js';
import { said } from './words.js';

/** So many go at a time; the others wait. */
const AT_ONCE = 3;
/** Refusals that come of limits which the page does not know of. */
const LIMITS_MOVED = new Set(['uploads-disabled', 'file-too-large', 'inline-cap-exceeded', 'mime-not-allowed']);
/** Who signs out waits for the server to forget their files, but not for long. */
const TAKE_BACK_MS = 3000;

/**
 * What the state cannot hold of an upload: the file itself, and how to end or hurry what sends it.
 * @typedef {object} Own
 * @property {File} file
 * @property {AbortController} way
 * @property {string | null} place    where it is on the server, if it has begun
 * @property {boolean} isShelved      it outlives a reload
 * @property {shelf.Release} release  ends this page's hold on it
 * @property {() => void} goOn        ends a pause
 */

/** @type {Map<string, Own>} */
const held = new Map();
/** The attachments that this page has seen in a draft. @type {Set<string>} */
const drafted = new Set();
/** Nothing new goes out. */
let isHalted = false;

/** The file of an upload that this page was given, if it still has it. @param {string} key */
export const fileOf = (key) => held.get(key)?.file ?? null;

/** The files of the next message of a session, in the order in which they were added. @param {readonly Upload[]} uploads @param {string} session */
export const ofSession = (uploads, session) => uploads.filter((upload) => upload.session === session);

/** Whether a file has not come to its end. @param {Upload} upload */
export const isUnderWay = ({ phase }) => phase === 'waiting' || isGoing(phase);

/** Whether a file is the business of the transport. @param {Upload['phase']} phase */
export const isGoing = (phase) => phase === 'sending' || phase === 'paused' || phase === 'checking';

/** Whether a file cannot go with a message, as it is. @param {Upload} upload */
export const isRefused = ({ phase }) => phase === 'refused' || phase === 'quarantined';

/** @param {Problem} problem whether the same file may be taken another time */
export const canRetry = (problem) => passes(problem) || problem.status === 401 || problem.code === 'upload-not-found';

/** @param {string} line  for who cannot see the page */
const announce = (line) => update({ announced: { line } });

/** Whose files are kept here, as far as that is known. */
const owner = () => prefs.read('owner') ?? '';

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
  if (taken.length === 0) return;
  settle(id);
  keepDraft(id);
  sendWaiting();
}

/** @param {File} file @param {string} session @returns {Upload} */
function begun(file, session) {
  const key = newId();
  hold(key, file);
  void shelve(key, session);
  return waiting(key, session, file);
}

/** @param {string} key @param {string} session @param {File} file @returns {Upload} */
const waiting = (key, session, { name, size, type }) => ({ key, session, name, size, type, phase: 'waiting', sent: 0, id: null, reason: null, problem: null });

/** @param {string} key @param {File} file @param {Partial<Own>} [more] */
function hold(key, file, more) {
  held.set(key, { file, way: new AbortController(), place: null, isShelved: false, release: () => {}, goOn: () => {}, ...more });
}

/** The last moment at which a file was put on the shelf: they stay in their order. */
let shelvedAt = 0;

/** Keeps a file over a reload. @param {string} key @param {string} session */
async function shelve(key, session) {
  shelvedAt = Math.max(Date.now(), shelvedAt + 1);
  const at = shelvedAt;
  const release = await shelf.claim(key);
  const own = held.get(key);
  if (!own) release?.();
  else if (release) {
    own.release = release;
    own.isShelved = await shelf.keep({ key, owner: owner(), session, file: own.file, at });
  }
}

/** What has come to its end is not to go on after a reload. @param {string} key */
function unshelve(key) {
  void shelf.drop([key]);
  const own = held.get(key);
  own?.release();
  if (own) own.isShelved = false;
}

/** A new conversation has its own address from its first file on: files belong to a session. @param {string} id */
function settle(id) {
  if (place(location.pathname).kind !== 'new') return;
  prefs.settleDraft(id);
  go(pathOf(id), 'replace');
}

function sendWaiting() {
  if (isHalted) return;
  const { uploads } = current();
  const free = AT_ONCE - uploads.filter(({ phase }) => isGoing(phase)).length;
  for (const upload of uploads.filter(({ phase }) => phase === 'waiting').slice(0, Math.max(free, 0))) void run(upload);
}

/** @param {Upload} upload */
async function run({ key, session, name }) {
  const own = held.get(key);
  if (!own) return;
  const { signal } = own.way;
  let isAnnounced = false;
  patch(key, { phase: 'sending', problem: null, reason: null });
  try {
    arrive(key, session, await send(own.file, session, {
      signal,
      place: own.place,
      placed: (to) => {
        // Who took it out did not know yet where it is.
        if (signal.aborted && to !== null) void tus.end(to);
        else own.place = to;
        if (!signal.aborted) void shelf.note(key, to);
      },
      begins: assertSame,
      progress: (part) => patch(key, { sent: part, phase: part < 1 ? 'sending' : 'checking', problem: null }),
      paused: (problem, goOn) => {
        own.goOn = goOn;
        // The server still looks through it.
        if (problem.status === 423) return patch(key, { phase: 'checking', sent: 1 });
        patch(key, { phase: 'paused', problem });
        if (!isAnnounced) announce(text.files.refused(said(name), text.files.paused));
        isAnnounced = true;
      },
    }));
  } catch (error) {
    if (!signal.aborted) fail(key, name, api.problemOf(error));
  }
  sendWaiting();
}

/** What one person added must not go out in the name of another, who may have signed in on another page. */
async function assertSame() {
  if (!(await api.config()).sign_in?.enabled) return;
  const now = await api.person();
  const { person } = current();
  if (now?.tenant === person?.tenant && now?.subject === person?.subject) return;
  // Who is here is about to be known.
  if (!person) throw new api.RequestError({ status: 0, code: 'unreachable', detail: text.problem.unreachable, retryAfter: null });
  throw new api.RequestError({ status: 401, code: 'token-invalid', detail: text.problem.byCode['token-invalid'], retryAfter: null });
}

/** @param {string} key @param {string} session @param {tus.Kept} what */
function arrive(key, session, { id, filename, mime, size, status, quarantine_reason: reason }) {
  const isClean = status === 'clean';
  if (isClean) kept.know(id, { name: filename, size, type: mime });
  // It was in the draft already when the page was left.
  const isTwice = current().uploads.some((other) => other.key !== key && other.id === id);
  if (isTwice) update({ uploads: current().uploads.filter((upload) => upload.key !== key) });
  else patch(key, { phase: isClean ? 'clean' : 'quarantined', id, name: filename, type: mime, size, reason });
  announce(isClean ? text.files.came(said(filename)) : text.files.refused(said(filename), text.files.quarantine(reason)));
  keepDraft(session);
  unshelve(key);
}

/** @param {string} key @param {string} name @param {Problem} problem */
function fail(key, name, problem) {
  patch(key, { phase: 'refused', problem });
  announce(text.files.refused(said(name), problem.detail));
  if (!canRetry(problem)) {
    void endOnServer(key);
    unshelve(key);
  }
  if (problem.status === 401) update({ connection: { kind: 'signed-out' } });
  if (LIMITS_MOVED.has(problem.code)) void lookAgain();
}

/** Learns what files are held to now. Without an answer what was known stays. */
const lookAgain = () => api.config(true).then((config) => update({ config }), () => {});

/** Goes on with a file that was not taken, where it stopped, or at once with one that would go on by itself. @param {string} key */
export function retry(key) {
  const own = held.get(key);
  const upload = current().uploads.find((one) => one.key === key);
  if (!own || !upload) return;
  if (upload.phase === 'paused') {
    patch(key, { phase: 'sending', problem: null });
    own.goOn();
    return;
  }
  if (upload.phase === 'quarantined') {
    own.place = null;
    void shelve(key, upload.session);
  }
  patch(key, { phase: 'waiting', sent: own.place === null ? 0 : upload.sent, id: null, problem: null, reason: null });
  sendWaiting();
}

/** Takes a file out of the message, whatever has become of it, and from the server. @param {string} key */
export function remove(key) {
  const upload = current().uploads.find((one) => one.key === key);
  if (!upload) return;
  const { session, phase, id, name } = upload;
  // What is quarantined is left to those who decide about it.
  if (phase === 'clean' && id !== null) {
    if (!isReferred(session, id)) void api.removeAttachment(id).catch(() => {});
  } else if (phase !== 'quarantined') void endOnServer(key);
  drop([upload]);
  announce(text.files.removed(said(name)));
}

/** Whether a message refers to an attachment, as far as this browser knows; another page of it may have sent the same draft. @param {string} session @param {string} id */
function isReferred(session, id) {
  const { conversation } = current();
  const isInDraft = prefs.files(session).some((file) => file.id === id);
  const said = conversation.id === session ? conversation.turns.map((turn) => turn.said) : [];
  return !isInDraft || [...prefs.unsent(session), ...said].some((words) => words?.attachments?.includes(id));
}

/** Takes an upload away there. @param {string} key */
function endOnServer(key) {
  const own = held.get(key);
  const at = own?.place ?? null;
  if (own) own.place = null;
  return at === null ? Promise.resolve() : tus.end(at);
}

/** @param {readonly Upload[]} gone */
function drop(gone) {
  for (const { key } of gone) {
    held.get(key)?.way.abort();
    unshelve(key);
    held.delete(key);
  }
  update({ uploads: current().uploads.filter((upload) => !gone.includes(upload)) });
  for (const session of new Set(gone.map(({ session }) => session))) keepDraft(session);
  sendWaiting();
}

/**
 * The attachments of a message that is sent now, by their ids, and what takes them out of the draft once they are safe.
 * @param {string} session @returns {{attachments: string[], taken: () => void}}
 */
export function take(session) {
  const mine = ofSession(current().uploads, session);
  const taken = () => {
    drop(mine);
    update({ unadded: null });
  };
  return { attachments: mine.flatMap(({ phase, id }) => (phase === 'clean' && id !== null ? [id] : [])), taken };
}

/** What came whole is kept over a reload. @param {string} session */
function keepDraft(session) {
  const mine = ofSession(current().uploads, session);
  const clean = mine.filter(({ phase }) => phase === 'clean');
  const files = clean.map(({ id, name, size, type }) => ({ id: /** @type {string} */ (id), name, size, type }));
  const before = prefs.files(session);
  // What another page has sent or taken out meanwhile is not put back.
  const left = files.filter(({ id }) => !drafted.has(id) || before.some((file) => file.id === id));
  for (const { id } of left) drafted.add(id);
  prefs.keepFiles(session, left);
  prefs.noteUnderWay(session, clean.length < mine.length);
}

/** Brings back what a closed page left in the draft of a session. @param {string} session */
export function restore(session) {
  const { uploads } = current();
  if (ofSession(uploads, session).length === 0) {
    const files = prefs.files(session);
    for (const { id, ...facts } of files) {
      kept.know(id, facts);
      drafted.add(id);
    }
    update({ uploads: [...uploads, ...files.map((file) => ({ key: newId(), session, phase: /** @type {const} */ ('clean'), sent: 1, reason: null, problem: null, ...file }))] });
  }
  void resume(session);
}

/** Goes on with what a closed page left under way. @param {string} session */
async function resume(session) {
  const taken = await shelf.take(owner(), session);
  for (const { shelved: { key, file, place: at = null }, release } of taken) hold(key, file, { place: at, isShelved: true, release });
  const back = taken.map(({ shelved: { key, file } }) => waiting(key, session, file));
  if (back.length > 0) {
    update({ uploads: [...current().uploads, ...back] });
    announce(text.files.resumed(back.map(({ name }) => said(name))));
  }
  prefs.noteUnderWay(session, ofSession(current().uploads, session).some(({ phase }) => phase !== 'clean'));
  sendWaiting();
}

/** Ends what goes to a session that is gone. @param {string} session */
export function forget(session) {
  const { uploads, awaited } = current();
  const mine = ofSession(uploads, session);
  for (const { key } of mine) void endOnServer(key);
  update({ awaited: awaited.filter((one) => one.session !== session) });
  drop(mine);
  void shelf.ofOwner(owner(), session).then((left) => {
    void shelf.drop(left.map(({ key }) => key));
    void endLeft(left);
  });
}

/** Takes away there what closed pages left under way. @param {readonly shelf.Shelved[]} left */
const endLeft = (left) => Promise.all(left.map(({ place: at }) => at && tus.end(at)));

/** Halts all that is under way and takes it from the server, while that is allowed: its sender is about to sign out. */
export async function takeBack() {
  isHalted = true;
  const ended = current().uploads.filter(({ phase }) => phase !== 'clean' && phase !== 'quarantined').map(({ key, phase }) => {
    const own = held.get(key);
    own?.way.abort();
    if (own) own.way = new AbortController();
    if (phase !== 'refused') patch(key, { phase: 'waiting', sent: 0, problem: null });
    return endOnServer(key);
  });
  ended.push(shelf.ofOwner(owner()).then((left) => endLeft(left.filter(({ key }) => !held.has(key)))).then(() => {}));
  await Promise.race([Promise.all(ended), new Promise((late) => setTimeout(late, TAKE_BACK_MS))]);
}

/** Sends what was halted after all, from its beginning. */
export function goOn() {
  isHalted = false;
  sendWaiting();
}

/** Forgets all files of this page: whoever they are of is not here any more. */
export function forgetAll() {
  update({ awaited: [] });
  drop(current().uploads);
  // The browser may bring this page back, for somebody who has signed in again.
  isHalted = false;
}

/** Follows what operators change and other pages leave, and asks before a page is closed that would lose something by it. */
export function watchUploads() {
  addEventListener('focus', () => {
    void lookAgain();
    void resume(current().conversation.id);
  });
  addEventListener('beforeunload', (event) => {
    const { uploads, awaited } = current();
    // What is on the shelf goes on where it stopped; a message that waits would not be sent by itself.
    const isLost = uploads.some((upload) => isUnderWay(upload) && !held.get(upload.key)?.isShelved);
    if (isLost || awaited.length > 0) event.preventDefault();
  });
  void shelf.sweep().then((old) => {
    for (const { owner: whose, place: at } of old) if (whose === owner() && at) void tus.end(at);
  });
}
