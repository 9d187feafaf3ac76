/**
 * Messages on their way: shown at once, kept until they are acknowledged, sent again with the same key.
 * @module
 */
/** @import { Words } from './types.js' */
import * as api from './api.js';
import * as prefs from './prefs.js';
import { go, newId, pathOf } from './route.js';
import * as sessions from './sessions.js';
import { current, update, updateConversation } from './store.js';
import { text } from './strings.js';
import { acknowledged, refused, withUnsent } from './turns.js';

/** The key of each quick action that was asked for and not accepted, by session and action. @type {Map<string, string>} */
const acts = new Map();

/**
 * Posts a message, and shows it at once where its conversation is open.
 * @param {Words} words @param {string} [id]  of its conversation, if it is another one
 * @param {() => void} [safe]  it is shown, kept or accepted, so that what it was written in can be emptied
 */
export async function send(words, id = current().conversation.id, safe = () => {}) {
  const key = newId();
  const { conversation } = current();
  if (conversation.id === id && conversation.fresh) {
    go(pathOf(id), 'replace');
    updateConversation(id, ({ title }) => ({ title: title ?? titleOf(words) }));
  }
  const isSafe = prefs.keepUnsent(id, { key, ...words }) || conversation.id === id;
  const end = () => {
    prefs.endSettled(id);
    safe();
  };
  if (isSafe) end();
  const accepted = await deliver(id, key, words);
  if (accepted && !isSafe) end();
  return accepted;
}

/** What a conversation is called until the server says it; files alone give it no name. @param {Words} words */
const titleOf = (words) => words.text.trim().split('\n', 1)[0].slice(0, 80) || null;

/**
 * Sends a message again that was not accepted; the same key makes it count once.
 * @param {string} key @param {readonly string[]} [without]  attachments that it is to go without
 */
export function resend(key, without = []) {
  const { id, turns } = current().conversation;
  const said = turns.find((turn) => turn.key === key)?.said;
  if (!said) return Promise.resolve(false);
  const words = { text: said.text, attachments: said.attachments.filter((one) => !without.includes(one)) };
  if (without.length > 0) prefs.keepUnsent(id, { key, ...words });
  return deliver(id, key, words);
}

/** @param {string} id @param {string} key @param {Words} words @returns {Promise<boolean>} whether it was accepted */
async function deliver(id, key, words) {
  updateConversation(id, ({ turns }) => ({ turns: withUnsent(turns, key, words) }));
  try {
    const stored = await api.post(id, words, key);
    prefs.dropUnsent(id, key);
    updateConversation(id, ({ turns }) => ({ fresh: false, turns: acknowledged(turns, key, stored) }));
    const { conversation } = current();
    sessions.posted(id, (conversation.id === id ? conversation.title : null) ?? titleOf(words));
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
  for (const { key, text: message, attachments = [], problem: met } of prefs.unsent(id)) {
    const turn = shown.get(key);
    if (turn && turn.seq !== null) prefs.dropUnsent(id, key);
    else if (!turn) {
      // Without a reason the page was closed before it had an answer.
      const problem = met ?? { status: 0, code: 'unreachable', detail: text.problem.unreachable, retryAfter: null };
      updateConversation(id, ({ turns }) => ({ turns: refused(withUnsent(turns, key, { text: message, attachments }), key, problem) }));
    }
  }
}

/** Forgets a message that was not accepted. @param {string} key */
export function discard(key) {
  const { id } = current().conversation;
  prefs.dropUnsent(id, key);
  updateConversation(id, ({ turns }) => ({ turns: turns.filter((turn) => turn.key !== key || turn.seq !== null) }));
}
