/**
 * The page's one state. Elements read it and watch parts of it; only the controllers
 * (`conversation.js`, `sessions.js`, `memory.js`, `signing.js`, `intents.js`, `files/uploads.js`, `files/awaited.js`) change it. State is replaced, never edited in place,
 * so that a watcher can tell a change by identity.
 * @module
 */
/** @import { State, Conversation } from './types.js' */
import * as prefs from './prefs.js';

/** @returns {Conversation} a conversation nothing is known about yet */
export function emptyConversation(id = '') {
  return {
    id, fresh: true, phase: 'loading', problem: null, title: null, paused: false,
    turns: [], events: [], earlier: false, inspected: null,
  };
}

/** @type {State} */
let state = {
  config: null,
  person: null,
  memory: null,
  sessions: { items: [], next: null, query: '', phase: 'loading' },
  conversation: emptyConversation(),
  connection: { kind: 'connecting' },
  draft: '',
  overlay: null,
  inspecting: prefs.read('inspecting') === 'yes',
  renaming: false,
  listOpen: false,
  theme: prefs.theme(),
  toast: null,
  uploads: [],
  awaited: [],
  unadded: null,
  announced: null,
  offlineNoteHidden: prefs.read('offline-note') === 'hidden',
};

/** @type {Set<() => void>} */
const watchers = new Set();
let scheduled = false;

/** @returns {Readonly<State>} */
export function current() {
  return state;
}

/**
 * Replaces parts of the state; watchers run once, after the current task.
 * @param {Partial<State>} patch
 */
export function update(patch) {
  state = { ...state, ...patch };
  if (scheduled) return;
  scheduled = true;
  queueMicrotask(() => {
    scheduled = false;
    for (const run of [...watchers]) run();
  });
}

/**
 * Replaces parts of the open conversation, if it is still the one meant: an answer to a
 * request about a conversation that was left must change nothing.
 * @param {string} id
 * @param {(conversation: Conversation) => Partial<Conversation>} change
 */
export function updateConversation(id, change) {
  const { conversation } = state;
  if (conversation.id !== id) return;
  update({ conversation: { ...conversation, ...change(conversation) } });
}

/**
 * Calls `run` now and whenever what `select` returns is another value.
 * @template T
 * @param {(state: Readonly<State>) => T} select
 * @param {(value: T) => void} run
 * @returns {() => void} ends the watch
 */
export function watch(select, run) {
  let seen = select(state);
  run(seen);
  const check = () => {
    const value = select(state);
    if (Object.is(value, seen)) return;
    seen = value;
    run(value);
  };
  watchers.add(check);
  return () => watchers.delete(check);
}
