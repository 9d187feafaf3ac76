/**
 * What each part of the inspector shows of a conversation's state.
 * @module
 */
/** @import { Conversation, SessionState } from '../types.js' */
import { h } from '../dom.js';
import { text } from '../strings.js';
import { count, span } from '../time.js';
import './soma-time.js';

/** @typedef {{title: string, content: (state: SessionState, conversation: Conversation) => HTMLElement[]}} Section */

const words = text.inspector;

/** @type {Section[]} */
export const sections = [
  { title: words.turn, content: turn },
  { title: words.recall, content: recall },
  { title: words.context, content: context },
  { title: words.mailbox, content: mailbox },
  { title: words.session, content: session },
];

/** @param {[string, string | number | Node | null | undefined | false][]} rows  those without a value are left out */
function facts(rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== '');
  return known.length === 0 ? [] : [h('dl', {}, known.flatMap(([name, value]) => [h('dt', { text: name }), h('dd', {}, value)]))];
}

/** @param {number} part @param {number} whole @param {string} label */
function meter(part, whole, label) {
  return h('meter', { min: 0, max: Math.max(whole, 1), value: part, 'aria-label': label });
}

/** @param {SessionState} state @param {Conversation} conversation */
function turn({ turn: running, last_usage, last_timing }, { turns }) {
  const last = turns.findLast((one) => one.answer?.seq)?.answer;
  const first = running ? running.first_delta_ms : last_timing?.first_delta_ms;
  const usage = running ? null : (last_usage ?? last?.metadata.usage);
  return facts([
    [words.state, h('span', { class: 'state', 'data-running': running !== null }, running?.state ?? words.idle)],
    [words.turnSeq, running?.turn_seq ?? last?.metadata.turn],
    [words.attempt, running?.attempt ?? last?.attempt],
    [words.model, running?.model ?? last?.metadata.model],
    [words.firstToken, typeof first === 'number' && span(first)],
    [words.total, !running && last_timing && span(last_timing.total_ms)],
    [words.written, running && `${count(running.text_bytes)} B`],
    [words.tokens, usage && h('span', { title: words.tokensTitle }, `${count(usage.input_tokens ?? 0)} → ${count(usage.output_tokens ?? 0)}`)],
  ]);
}

/** @param {SessionState} state */
function recall({ last_recall }) {
  if (!last_recall) return [];
  const { state, took_ms, items } = last_recall;
  const best = Math.max(...items.map((item) => item.score), 0);
  return [
    ...facts([
      [words.state, h('span', { class: 'state', 'data-recall': state }, words.recallStates[state] ?? state)],
      [words.took, span(took_ms)],
    ]),
    items.length === 0
      ? h('p', { class: 'list-note', text: words.recallNone })
      : h('ol', { class: 'recalled' }, items.map((item) => h('li', {},
        h('p', { text: item.text }),
        h('div', { class: 'score' }, meter(item.score, best, words.score), h('span', { text: item.score.toFixed(2) }), item.source && h('span', { class: 'source', text: item.source }))))),
  ];
}

/** @param {SessionState} state */
function context({ last_context }) {
  if (!last_context) return [];
  const { tokens, budget, messages, cut, files } = last_context;
  const nothing = cut.history_messages === 0 && cut.memories === 0 && cut.files === 0;
  return [
    ...facts([
      [words.used, `${count(tokens)} / ${count(budget)}`],
      [words.messages, messages],
      [words.cut, nothing ? words.cutNone : words.cutText(cut.history_messages, cut.memories, cut.files)],
      ...files.map((file) => /** @type {[string, string]} */ ([file.name, file.why ?? words.fileShown(file.chars, file.missing_chars)])),
    ]),
    meter(tokens, budget, words.used),
  ];
}

/** @param {SessionState} state */
function mailbox({ mailbox: boxes, queue }) {
  return facts([
    ...Object.entries(boxes ?? {}).map(([name, box]) => /** @type {[string, string | null]} */ ([name, box && `${box.depth} / ${box.capacity}`])),
    [words.queue, queue.length > 0 && queue.map((one) => one.turn_seq).join(', ')],
  ]);
}

/** @param {SessionState} state */
function session({ session_id, head, live, subscribers, persona_id, owner }) {
  return facts([
    [words.head, head],
    [words.live, live ? words.liveYes : words.liveNo],
    [words.readers, subscribers],
    [words.persona, persona_id],
    [words.owner, owner?.node],
    [words.epoch, owner?.epoch],
    [words.id, h('code', { text: session_id })],
  ]);
}
