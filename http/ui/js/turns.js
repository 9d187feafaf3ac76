/**
 * How events become turns: plain functions from a list of turns and an event to the next list.
 * The same functions serve the stored history and the live stream, so both show the same thing.
 * @module
 */
/** @import { Answer, Frame, Metadata, Problem, Said, StoredEvent, Turn, WireEvent, Words } from './types.js' */

/** @type {Record<string, Answer['phase']>} */
const TERMINAL = { 'assistant.final': 'final', 'assistant.stopped': 'stopped', 'assistant.error': 'error', assistant: 'final' };

/** @param {Turn} turn */
export const isOpen = (turn) => turn.answer === null || turn.answer.phase === 'thinking' || turn.answer.phase === 'streaming';

/**
 * The turn that is being answered: the first stored one without an end. Those behind it wait.
 * @param {readonly Turn[]} turns
 */
export const runningTurn = (turns) => turns.find((turn) => turn.seq !== null && isOpen(turn)) ?? null;

/**
 * @param {Turn[]} turns @param {StoredEvent} stored
 * @returns {Turn[]}
 */
export function applyStored(turns, { id, occurred_at, payload }) {
  if (payload.type === 'user' || (payload.type === undefined && payload.role === 'user')) return withUser(turns, payload, id, occurred_at);
  const phase = TERMINAL[payload.type] ?? (payload.metadata?.completed && payload.role === 'assistant' ? 'final' : null);
  return phase === null ? turns : withEnd(turns, payload, phase, id, occurred_at);
}

/**
 * @param {Turn[]} turns @param {Frame} frame  a live one, not stored
 * @returns {Turn[]}
 */
export function applyLive(turns, { id, event }) {
  const metadata = event.metadata ?? {};
  const turn = turns.find((one) => one.seq !== null && one.seq === metadata.turn) ?? runningTurn(turns);
  if (turn === null || !isOpen(turn)) return turns;
  const place = livePlace(id, metadata);
  const before = turn.answer;
  if (before && isPast(place, before)) return turns;
  // Text of an earlier attempt is void.
  const base = before && before.attempt === place.attempt ? before : emptyAnswer(place.attempt);
  const answer = liveAnswer({ ...base, frame: place.frame ?? base.frame, metadata: { ...base.metadata, ...metadata } }, event);
  return answer === null ? turns : replace(turns, turn, { ...turn, answer });
}

/** @param {number} attempt @returns {Answer} */
function emptyAnswer(attempt) {
  return { phase: 'thinking', attempt, frame: 0, text: '', html: null, reasoning: '', seq: null, at: null, metadata: {} };
}

/** @param {Answer} answer @param {WireEvent} event @returns {Answer | null} null for a frame that shows nothing */
function liveAnswer(answer, event) {
  switch (event.type) {
    case 'assistant.started':
      return { ...emptyAnswer(answer.attempt), frame: answer.frame, metadata: answer.metadata };
    case 'assistant.thinking':
      return { ...answer, reasoning: event.message || answer.reasoning };
    case 'assistant.stream':
      return { ...answer, phase: 'streaming', text: event.message ?? answer.text, html: event.html ?? null };
    default:
      return null;
  }
}

/**
 * Attempt and number of a live frame, from its id `<head>.<attempt>.<n>`.
 * @param {string | null} id @param {Metadata} metadata
 */
function livePlace(id, metadata) {
  const [, attempt, frame] = (id ?? '').split('.').map(Number);
  return { attempt: metadata.attempt ?? attempt ?? 1, frame: frame ?? null };
}

/** @param {ReturnType<typeof livePlace>} place @param {Answer} answer */
function isPast({ attempt, frame }, answer) {
  return attempt < answer.attempt || (attempt === answer.attempt && frame !== null && frame <= answer.frame);
}

/** @param {Turn[]} turns @param {WireEvent} event @param {number} seq @param {string} at */
function withUser(turns, event, seq, at) {
  const mark = event.metadata?.client_message_id ?? null;
  const own = turns.find((turn) => turn.seq === seq || (mark !== null && turn.key === mark) || (event.event_id !== undefined && turn.eventId === event.event_id));
  /** @type {Turn} */
  const stored = {
    key: own?.key ?? mark ?? event.event_id ?? `seq-${seq}`,
    seq,
    eventId: event.event_id ?? null,
    said: { text: event.message ?? '', attachments: attachmentsOf(event), at, delivery: 'stored', problem: null },
    answer: own?.answer ?? null,
  };
  return inOrder([...turns.filter((turn) => turn !== own), stored]);
}

/** The ids of what an event refers to. @param {WireEvent} event */
const attachmentsOf = ({ attachments }) => (attachments ?? []).flatMap((reference) => /^att:\/\/([0-9a-f-]{36})$/.exec(reference)?.[1] ?? []);

/** @param {Turn[]} turns @param {WireEvent} event @param {Answer['phase']} phase @param {number} seq @param {string} at */
function withEnd(turns, event, phase, seq, at) {
  const metadata = event.metadata ?? {};
  const turn = turns.find((one) => one.seq !== null && one.seq === metadata.turn) ?? (metadata.turn === undefined ? runningTurn(turns) : null);
  const attempt = metadata.attempt ?? turn?.answer?.attempt ?? 1;
  // What an earlier attempt said or thought is void, also when the one that ended the turn said nothing.
  const before = turn?.answer?.attempt === attempt ? turn.answer : null;
  /** @type {Answer} */
  const answer = {
    phase, seq, at, attempt,
    frame: Infinity,
    text: event.message ?? '',
    html: event.html ?? null,
    reasoning: before?.reasoning ?? '',
    metadata: { ...before?.metadata, ...metadata },
  };
  if (turn) return replace(turns, turn, { ...turn, answer });
  return inOrder([...turns, { key: event.event_id ?? `seq-${seq}`, seq, eventId: event.event_id ?? null, said: null, answer }]);
}

/**
 * A message this page is about to send.
 * @param {Turn[]} turns @param {string} key @param {Words} words
 * @returns {Turn[]}
 */
export function withUnsent(turns, key, { text, attachments }) {
  /** @type {Said} */
  const said = { text, attachments, at: null, delivery: 'sending', problem: null };
  const known = turns.find((turn) => turn.key === key);
  if (known) return known.seq === null ? replace(turns, known, { ...known, said }) : turns;
  return [...turns, { key, seq: null, eventId: null, said, answer: null }];
}

/**
 * The server's answer to a message of this page. The stream may have brought the event before.
 * @param {Turn[]} turns @param {string} key @param {{event_id: string, seq?: number}} stored
 * @returns {Turn[]}
 */
export function acknowledged(turns, key, { event_id, seq }) {
  const own = turns.find((turn) => turn.key === key);
  if (!own?.said || own.seq !== null) return turns;
  const said = /** @type {const} */ ({ ...own.said, at: new Date().toISOString(), delivery: 'stored', problem: null });
  const streamed = turns.find((turn) => turn !== own && turn.eventId === event_id);
  const merged = { ...own, eventId: event_id, seq: streamed?.seq ?? seq ?? null, said, answer: streamed?.answer ?? own.answer };
  return inOrder([...turns.filter((turn) => turn !== own && turn !== streamed), merged]);
}

/** @param {Turn[]} turns @param {string} key @param {Problem} problem @returns {Turn[]} */
export function refused(turns, key, problem) {
  const own = turns.find((turn) => turn.key === key);
  // An event the stream already brought was accepted, whatever became of the reply.
  if (!own?.said || own.seq !== null) return turns;
  return replace(turns, own, { ...own, said: { ...own.said, delivery: 'failed', problem } });
}

/** @param {Turn[]} turns @param {Turn} from @param {Turn} to */
const replace = (turns, from, to) => turns.map((turn) => (turn === from ? to : turn));

/** @param {Turn[]} turns @returns {Turn[]} */
const inOrder = (turns) => turns.sort((a, b) => (a.seq ?? Infinity) - (b.seq ?? Infinity) || 0);
