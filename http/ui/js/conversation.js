/**
 * The open conversation: loads its history, follows its stream, stops its answers.
 * @module
 */
/** @import { Conversation, Frame, Problem, StoredEvent } from './types.js' */
import * as api from './api.js';
import * as uploads from './files/uploads.js';
import * as prefs from './prefs.js';
import { go, newId, pathOf } from './route.js';
import { restoreUnsent } from './sending.js';
import * as sessions from './sessions.js';
import { current, emptyConversation, update, updateConversation } from './store.js';
import { SessionStream } from './stream.js';
import { applyLive, applyStored, runningTurn } from './turns.js';

/** So many events are shown at first: several screens, without waiting for what is rarely read again. */
const NEWEST = 100;
/** Most events the server gives in one answer. */
const PAGE = 500;
/** A conversation that could not be loaded is asked for again after this long. */
const REOPEN_MS = 5000;
/** A hidden page gives its connection back after this long: a browser has few for one server. */
const PARK_MS = 60_000;

/** @type {SessionStream | null} */
let stream = null;

/** Shows a conversation that does not exist yet; its stream waits for the first message. */
export function openNew() {
  const settled = prefs.settled();
  if (settled) {
    go(pathOf(settled), 'replace');
    void open(settled);
    return;
  }
  const id = newId();
  start({ ...emptyConversation(id), phase: 'ready' });
  follow(id, 0);
}

/** @param {string} id */
export async function open(id) {
  const listed = current().sessions.items.find((item) => item.session_id === id);
  start({ ...emptyConversation(id), fresh: false, title: listed?.title ?? null, paused: listed?.paused ?? false });
  try {
    const newest = await api.newest(id, NEWEST).catch(noneIfUnused);
    // It may be the id of a first message that was never sent, so it can be written to.
    const fresh = newest === null;
    const events = newest?.events ?? [];
    const earlier = newest?.more ?? false;
    // A message may have been sent meanwhile.
    updateConversation(id, ({ turns }) => ({ ...shown(events, turns), phase: 'ready', fresh, earlier }));
    restoreUnsent(id);
    follow(id, events.at(-1)?.id ?? 0);
    if (!fresh) void refreshState(id);
  } catch (error) {
    failToOpen(id, api.problemOf(error));
  }
}

/** Shows that the address leads nowhere. */
export function openNowhere() {
  start({ ...emptyConversation(''), phase: 'missing' });
  update({ connection: { kind: 'closed' } });
}

/** @param {Conversation} conversation */
function start(conversation) {
  stream?.close();
  stream = null;
  uploads.restore(conversation.id);
  update({ conversation, connection: { kind: 'connecting' } });
}

/** @param {string} id @param {Problem} problem */
function failToOpen(id, problem) {
  if (current().conversation.id !== id) return;
  if (problem.status === 410) showDeleted(id);
  else updateConversation(id, () => ({ phase: 'failed', problem }));
  if (problem.status !== 0 && problem.status !== 429 && problem.status < 500) {
    update({ connection: { kind: problem.status === 401 ? 'signed-out' : 'closed' } });
    return;
  }
  const waitMs = Math.max(REOPEN_MS, 1000 * (problem.retryAfter ?? 0));
  update({ connection: { kind: 'waiting', until: Date.now() + waitMs } });
  setTimeout(() => {
    const { conversation } = current();
    if (conversation.id === id && conversation.phase === 'failed') void open(id);
  }, waitMs);
}

/** Its id is never used again: what was typed for it can be sent no more. @param {string} id */
function showDeleted(id) {
  uploads.forget(id);
  prefs.forget(id);
  updateConversation(id, () => ({ phase: 'deleted', turns: [] }));
}

/** For a session that does not exist: it has no events. @param {unknown} error @returns {null} */
function noneIfUnused(error) {
  if (api.problemOf(error).status === 404) return null;
  throw error;
}

/** @param {StoredEvent[]} events @param {Conversation['turns']} turns @returns {Pick<Conversation, 'turns' | 'events'>} */
function shown(events, turns = []) {
  return { events, turns: events.reduce(applyStored, turns) };
}

/** Fetches what is older than the first event shown. */
export async function loadEarlier() {
  const { id, events } = current().conversation;
  if (events.length === 0) return;
  const first = events[0].id;
  const { events: older, more: earlier } = await api.newest(id, PAGE, first);
  updateConversation(id, (now) => {
    // Meanwhile the history was erased, or has these events already.
    if (now.events[0]?.id !== first) return {};
    const unstored = now.turns.filter((turn) => turn.seq === null);
    const running = runningTurn(now.turns);
    const { turns } = shown([...older, ...now.events]);
    const live = turns.map((turn) => (running && turn.seq === running.seq ? { ...turn, answer: running.answer } : turn));
    return { turns: [...live, ...unstored], events: [...older, ...now.events], earlier };
  });
}

/** @param {string} id @param {number} after */
function follow(id, after) {
  if (current().conversation.id !== id) return;
  let isLost = false;
  stream?.close();
  stream = new SessionStream(id, after, {
    frame: (frame) => take(id, frame),
    connection: (connection) => {
      if (current().conversation.id !== id) return;
      const wasLost = current().connection.kind === 'connecting' && isLost;
      isLost = connection.kind === 'waiting' || connection.kind === 'offline' || (isLost && connection.kind === 'connecting');
      update({ connection });
      if (connection.kind === 'live' && wasLost) catchUp(id);
    },
    refused: (problem) => {
      if (problem.status === 410) showDeleted(id);
      else if (problem.code === 'sse-disabled') void poll(id);
    },
  });
  stream.retryNow();
}

/** The stream brings the events that were missed, not what else may have changed meanwhile. @param {string} id */
function catchUp(id) {
  void sessions.refresh();
  if (!current().conversation.fresh) void refreshState(id);
}

/** @param {string} id @param {Frame} frame */
function take(id, frame) {
  const { event } = frame;
  if (event.type === 'session.deleted') {
    stream?.close();
    showDeleted(id);
    update({ connection: { kind: 'closed' } });
    void sessions.refresh();
    return;
  }
  if (event.type === 'session.reset') {
    void open(id);
    return;
  }
  const seq = event.metadata?.sequence ?? null;
  if (seq === null) {
    updateConversation(id, ({ turns }) => ({ turns: applyLive(turns, frame) }));
    return;
  }
  takeStored(id, { id: seq, occurred_at: new Date().toISOString(), payload: event });
}

/** @param {string} id @param {StoredEvent} stored */
function takeStored(id, stored) {
  const conversation = current().conversation;
  if (conversation.id !== id || conversation.events.some((one) => one.id === stored.id)) return;
  updateConversation(id, ({ turns, events }) => ({
    fresh: false,
    turns: applyStored(turns, stored),
    events: [...events, stored].sort((a, b) => a.id - b.id),
  }));
  const mark = stored.payload.metadata?.client_message_id;
  if (mark) prefs.dropUnsent(id, mark);
  sessions.touched(id, stored);
  if (stored.payload.metadata?.completed) void refreshState(id);
}

/**
 * The way of a server whose stream is switched off: asks for new events until the conversation is left.
 * @param {string} id
 */
async function poll(id) {
  const refused = stream;
  while (current().conversation.id === id && stream === refused) {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const after = current().conversation.events.at(-1)?.id ?? 0;
    try {
      const { events } = await api.events(id, after, PAGE);
      for (const event of events) takeStored(id, event);
    } catch (error) {
      if (api.problemOf(error).status !== 401 || current().conversation.id !== id) continue;
      update({ connection: { kind: 'signed-out' } });
      return;
    }
  }
}

/** Reads the conversation's state as its actor sees it. @param {string} id */
export async function refreshState(id) {
  try {
    const inspected = await sessions.readChanged(() => api.state(id));
    updateConversation(id, (now) => ({ inspected, paused: inspected.paused, title: inspected.title ?? now.title }));
  } catch {
    // The inspector shows what it last knew; the transcript does not need it.
  }
}

/** Ends the running answer, from whichever client it was asked for. */
export async function stop() {
  const { id, turns } = current().conversation;
  if (runningTurn(turns)) await api.stop(id);
}

/** Tries the stream, or the whole conversation if it could not be loaded, again. */
export function reconnect() {
  const { id, phase, events } = current().conversation;
  if (phase === 'failed') void open(id);
  else if (current().connection.kind === 'signed-out') {
    follow(id, events.at(-1)?.id ?? 0);
    catchUp(id);
  } else stream?.retryNow();
}

/** Gives the connection back while nobody looks and nothing is being answered. */
export function parkWhenHidden() {
  /** @type {number | undefined} */
  let timer;
  const parkOrWait = () => {
    if (runningTurn(current().conversation.turns)) timer = setTimeout(parkOrWait, PARK_MS);
    else stream?.park();
  };
  document.addEventListener('visibilitychange', () => {
    clearTimeout(timer);
    if (!document.hidden) {
      if (current().connection.kind === 'parked') stream?.retryNow();
      return;
    }
    timer = setTimeout(parkOrWait, PARK_MS);
  });
}
