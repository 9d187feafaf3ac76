/**
 * What people ask for. Elements dispatch `soma` events; this table is what they lead to.
 * @module
 */
/** @import { Overlay, Words } from './types.js' */
import * as api from './api.js';
import * as conversation from './conversation.js';
import * as uploads from './files/uploads.js';
import * as prefs from './prefs.js';
import { draftName, go, pathOf, place } from './route.js';
import * as sending from './sending.js';
import * as sessions from './sessions.js';
import * as signing from './signing.js';
import { current, update } from './store.js';
import { text } from './strings.js';

/** @type {number | undefined} */
let toastTimer;

/** Shows a line of text for a moment. @param {string} line */
export function say(line) {
  clearTimeout(toastTimer);
  update({ toast: line });
  toastTimer = setTimeout(() => update({ toast: null }), 4000);
}

/**
 * Runs a request made by a person and says why it failed, if it does.
 * @param {string} what @param {Promise<unknown>} work
 */
async function attempt(what, work) {
  try {
    await work;
  } catch (error) {
    say(text.toast.failed(what, api.problemOf(error).detail));
  }
}

/** @param {string} value @param {string} done */
async function copy(value, done) {
  try {
    await navigator.clipboard.writeText(value);
    say(done);
  } catch {
    say(text.toast.copyFailed);
  }
}

/** Shows what the address names. */
export function showPlace() {
  const to = place(location.pathname);
  if (to.kind === 'session') void conversation.open(to.id);
  else if (to.kind === 'new') conversation.openNew();
  else conversation.openNowhere();
}

/** @param {string} id */
function confirmDelete(id) {
  const title = current().sessions.items.find((item) => item.session_id === id)?.title ?? current().conversation.title ?? text.untitled;
  update({
    overlay: {
      name: 'confirm',
      title: text.session.deleteTitle,
      detail: text.session.deleteDetail(title),
      action: text.session.delete,
      run: () => void attempt(text.session.delete, remove(id)),
    },
  });
}

/** @param {string} id */
async function remove(id) {
  await sessions.remove(id);
  say(text.toast.deleted);
  uploads.forget(id);
  prefs.forget(id);
  if (current().conversation.id === id) intents['new']();
}

/** @param {'system' | 'light' | 'dark'} theme */
function setTheme(theme) {
  prefs.write('theme', theme === 'system' ? null : theme);
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  update({ theme });
}

/** A server that took a message can take the stream too. @param {boolean} accepted */
function comeBack(accepted) {
  if (accepted && current().connection.kind === 'waiting') conversation.reconnect();
}

/** Sends what was written in a conversation, which need not be the open one any more. @param {{session: string, message: string}} draft */
async function sendDraft({ session, message }) {
  const draft = current().conversation.id === session ? draftName(location.pathname) : `draft.${session}`;
  const { attachments, taken } = uploads.take(session);
  const accepted = await sending.send({ text: message, attachments }, session, () => {
    prefs.write(draft, null);
    if (current().conversation.id === session) update({ draft: '' });
    taken();
  });
  comeBack(accepted);
  if (!accepted && current().conversation.id !== session) say(text.files.notSentElsewhere);
}

const idOr = (/** @type {string | undefined} */ id) => id ?? current().conversation.id;

/** @type {Record<string, (detail?: any) => void>} */
export const intents = {
  'send': (/** @type {Words} */ words) => void sending.send(words).then(comeBack),
  'send-draft': sendDraft,
  'resend': ({ key, without }) => void sending.resend(key, without).then(comeBack),
  'discard': (/** @type {string} */ key) => sending.discard(key),
  'stop': () => void attempt(text.composer.stop, conversation.stop()),
  'reconnect': () => conversation.reconnect(),
  'earlier': () => void attempt(text.transcript.earlier, conversation.loadEarlier()),
  'new': () => {
    go('/');
    update({ listOpen: false });
    conversation.openNew();
  },
  'open': (/** @type {string} */ id) => {
    update({ listOpen: false });
    if (id === current().conversation.id && current().conversation.phase === 'ready') return;
    go(pathOf(id));
    void conversation.open(id);
  },
  'step': (/** @type {1 | -1} */ step) => {
    const id = sessions.neighbour(current().conversation.id, step);
    if (id) intents.open(id);
  },
  'rename': ({ id, title }) => void attempt(text.session.rename, sessions.rename(id, title)),
  'renaming': (/** @type {boolean} */ renaming) => update({ renaming }),
  'delete': (/** @type {string | undefined} */ id) => confirmDelete(idOr(id)),
  'pause': () => void attempt(text.session.pause, sessions.pause(idOr(undefined), !current().conversation.paused)),
  'quick': (/** @type {keyof typeof text.quick} */ action) => void attempt(text.quick[action], sending.act(action)),
  'search': (/** @type {string} */ query) => void sessions.search(query),
  'more': () => void attempt(text.list.more, sessions.loadMore()),
  'refresh-list': () => void sessions.refresh(),
  'copy': (/** @type {string} */ value) => void copy(value, text.copied),
  'copy-link': () => void copy(new URL(pathOf(idOr(undefined)), location.href).href, text.toast.linkCopied),
  'copy-markdown': () => void attempt(text.session.copyMarkdown, api.history(idOr(undefined)).then(({ history, more }) => copy(history, more ? text.toast.markdownCutCopied : text.toast.markdownCopied))),
  'add-files': ({ files, folders }) => uploads.add(files, folders),
  'retry-file': (/** @type {string} */ key) => uploads.retry(key),
  'remove-file': (/** @type {string} */ key) => uploads.remove(key),
  'hide-unadded': () => update({ unadded: null }),
  'announce': (/** @type {string} */ line) => update({ announced: { line } }),
  'typed': (/** @type {string} */ draft) => update({ draft }),
  'sign-in': () => signing.signIn(),
  'sign-out': () => void attempt(text.login.out, signing.signOut()),
  'sign-out-everywhere': () => update({
    overlay: {
      name: 'confirm',
      title: text.login.outEverywhereTitle,
      detail: text.login.outEverywhereDetail,
      action: text.login.outEverywhere,
      run: () => void attempt(text.login.outEverywhere, signing.signOutEverywhere()),
    },
  }),
  'theme': setTheme,
  'overlay': (/** @type {Overlay} */ overlay) => update({ overlay }),
  'list': (/** @type {boolean} */ listOpen) => update({ listOpen }),
  'inspect': () => {
    const inspecting = !current().inspecting;
    prefs.write('inspecting', inspecting ? 'yes' : null);
    update({ inspecting });
  },
  'refresh-state': () => void conversation.refreshState(idOr(undefined)),
  'hide-offline-note': () => {
    prefs.write('offline-note', 'hidden');
    update({ offlineNoteHidden: true });
  },
};
