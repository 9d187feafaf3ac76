/**
 * One conversation as its actor sees it: the turn, what was recalled, what was cut, times, tokens,
 * mailboxes and the stored events. Reads public endpoints only.
 * @module
 */
/** @import { Conversation, StoredEvent } from '../types.js' */
import { arrange, h } from '../dom.js';
import { icon } from '../icons.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { runningTurn } from '../turns.js';
import { SomaElement } from './element.js';
import { sections } from './inspector-sections.js';

const BUSY_MS = 1000;
const IDLE_MS = 5000;
/** More rows than this are of no use to anybody and cost layout. */
const MOST_EVENTS = 200;

export class SomaInspector extends SomaElement {
  #note = h('p', { class: 'list-note', text: text.inspector.empty });
  #parts = sections.map(({ title }) => h('section', { class: 'part' }, h('h3', { text: title }), h('div')));
  #eventCount = h('span', { class: 'tally' });
  #eventList = h('ol', { class: 'events' });
  #events = h('section', { class: 'part' }, h('h3', {}, text.inspector.events, ' ', this.#eventCount), this.#eventList);
  #scroll = h('div', { class: 'inspector-scroll', tabindex: 0, role: 'group', 'aria-label': text.inspector.label });
  /** @type {Map<number, HTMLElement>} */
  #rows = new Map();
  #conversation = '';
  /** @type {number | undefined} */
  #timer;

  build() {
    this.append(h('aside', { 'aria-label': text.inspector.label },
      h('div', { class: 'inspector-top' }, h('h2', { text: text.inspector.label }),
        h('button', { type: 'button', class: 'icon-button', 'aria-label': text.inspector.hide, onclick: () => this.ask('inspect') }, icon('close'))),
      this.#scroll));
  }

  connected() {
    this.watch(({ inspecting }) => inspecting, (shown) => {
      this.hidden = !shown;
      clearTimeout(this.#timer);
      if (shown) this.#refresh();
    });
    this.watch(({ inspecting, conversation }) => (inspecting ? conversation : null), (conversation) => {
      if (conversation) this.#show(conversation);
    });
    this.untilGone(() => clearTimeout(this.#timer));
  }

  #refresh() {
    const { conversation, connection } = current();
    if (!document.hidden && !conversation.fresh && conversation.phase === 'ready' && connection.kind !== 'offline') this.ask('refresh-state');
    this.#timer = setTimeout(() => this.#refresh(), runningTurn(conversation.turns) ? BUSY_MS : IDLE_MS);
  }

  /** @param {Conversation} conversation */
  #show(conversation) {
    if (conversation.id !== this.#conversation) {
      this.#conversation = conversation.id;
      this.#rows.clear();
    }
    const { inspected, events } = conversation;
    const shown = inspected ? this.#parts.filter((part, index) => this.#fill(part, index, conversation)) : [];
    this.#eventCount.textContent = String(events.length);
    arrange(this.#eventList, events.slice(-MOST_EVENTS).reverse().map((event) => this.#row(event)));
    arrange(this.#scroll, inspected || events.length > 0 ? [...shown, this.#events] : [this.#note]);
  }

  /** @param {HTMLElement} part @param {number} index @param {Conversation} conversation @returns {boolean} whether it has anything to show */
  #fill(part, index, conversation) {
    if (!conversation.inspected) return false;
    const content = sections[index].content(conversation.inspected, conversation);
    const body = /** @type {Element} */ (part.lastChild);
    const next = h('div', {}, ...content);
    if (!body.isEqualNode(next)) body.replaceWith(next);
    return content.length > 0;
  }

  /** @param {StoredEvent} event */
  #row(event) {
    const row = this.#rows.get(event.id) ?? eventRow(event);
    this.#rows.set(event.id, row);
    return row;
  }
}

/** @param {StoredEvent} event @returns {HTMLElement} */
function eventRow(event) {
  const time = h('soma-time', { class: 'event-time' });
  time.at = event.occurred_at;
  const details = h('details', {
    ontoggle: () => {
      if (details.open && details.childElementCount === 1) details.append(h('pre', { tabindex: 0, text: JSON.stringify(event.payload, withoutHtml, 2) }));
    },
  }, h('summary', {}, h('span', { class: 'event-seq', text: event.id }), h('span', { class: 'event-type', text: event.payload.type ?? event.payload.role }), time));
  return h('li', {}, details);
}

/** @param {string} key @param {unknown} value */
const withoutHtml = (key, value) => (key === 'html' ? undefined : value);

customElements.define('soma-inspector', SomaInspector);
