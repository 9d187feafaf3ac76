/**
 * Messages on their way: shown at once, kept until they are acknowledged, sent again with the same key.
 * @module
 */
import * as api from './api.js';
import * as prefs from './prefs.js';
import { go, newId, pathOf } from './route.js';
import * as sessions from './sessions.js';
import { current, update, updateConversation } from './store.js';
import { text } from './strings.js';
import { acknowledged, refused, withUnsent } from './turns.js';

/** The key of each quick action that was asked for and not accepted, by session and action. @type {Map<string, string>} */
const acts = new Map();

/** Shows a message in the open conversation at once and posts it. @param {string} message */
export function send(message) {
  const { id, fresh, title } = current().conversation;
  const key = newId();
  if (fresh) {
    go(pathOf(id), 'replace');
    updateConversation(id, () => ({ title: title ?? message.trim().split('\n', 1)[0].slice(0, 80) }));
  }
  prefs.keepUnsent(id, { key, text: message });
  return deliver(id, key, message);
}

/** Sends a message again that was not accepted; the same key makes it count once. @param {string} key */
export function resend(key) {
  const { id, turns } = current().conversation;
  const said = turns.find((turn) => turn.key === key)?.said;
  return said ? deliver(id, key, said.text) : Promise.resolve(false);
}

/** @param {string} id @param {string} key @param {string} message @returns {Promise<boolean>} whether it was accepted */
async function deliver(id, key, message) {
  updateConversation(id, ({ turns }) => ({ turns: withUnsent(turns, key, message) }));
  try {
    const stored = await api.post(id, message, key);
    prefs.dropUnsent(id, key);
    updateConversation(id, ({ turns }) => ({ fresh: false, turns: acknowledged(turns, key, stored) }));
    const { conversation } = current();
    sessions.posted(id, (conversation.id === id ? conversation.title : null) ?? message);
    return true;
  } catch (error) {
    const problem = api.problemOf(error);
    prefs.noteUnsent(id, key, problem);
    updateConversation(id, ({ turns }) => ({ turns: refused(turns, key, problem) }));
    // The stream may not have noticed yet.
    if (problem.status === 401) update({ connection: { kind: 'signed-out' } });
    return false;
  }
}

/** Asks for a quick action; until it is accepted or its message is seen, asking again is the same request. @param {string} action */
export async function act(action) {
  const { id, turns } = current().conversation;
  const place = `${id} ${action}`;
  const last = acts.get(place);
  const isNew = last === undefined || turns.some((turn) => turn.key === last && turn.seq !== null);
  const key = isNew ? newId() : last;
  acts.set(place, key);
  await api.quickAction(id, action, key);
  if (acts.get(place) === key) acts.delete(place);
}

/** Messages that a closed page left unsent come back as failed ones, to be sent or not. @param {string} id */
export function restoreUnsent(id) {
  const shown = new Map(current().conversation.turns.map((turn) => [turn.key, turn]));
  for (const { key, text: message, problem: met } of prefs.unsent(id)) {
    const turn = shown.get(key);
    if (turn && turn.seq !== null) prefs.dropUnsent(id, key);
    else if (!turn) {
      // Without a reason the page was closed before it had an answer.
      const problem = met ?? { status: 0, code: 'unreachable', detail: text.problem.unreachable, retryAfter: null };
      updateConversation(id, ({ turns }) => ({ turns: refused(withUnsent(turns, key, message), key, problem) }));
    }
  }
}

/** Forgets a message that was not accepted. @param {string} key */
export function discard(key) {
  const { id } = current().conversation;
  prefs.dropUnsent(id, key);
  updateConversation(id, ({ turns }) => ({ turns: turns.filter((turn) => turn.key !== key || turn.seq !== null) }));
}
