/**
 * The conversations by day, newest first. Rows are kept while their session is listed.
 * @module
 */
/** @import { SessionList, SessionSummary } from '../types.js' */
import { arrange, h } from '../dom.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { dayHeading } from '../time.js';
import { SomaElement } from './element.js';
import { SomaSessionItem } from './soma-session-item.js';

export class SomaSessionList extends SomaElement {
  /** @type {Map<string, SomaSessionItem>} */
  #rows = new Map();
  /** @type {Map<string, HTMLElement>} */
  #days = new Map();
  #note = h('p', { class: 'list-note' });
  #more = h('button', { type: 'button', class: 'quiet more', onclick: () => this.ask('more') }, text.list.more);
  #nearEnd = new IntersectionObserver(([entry]) => {
    if (entry.isIntersecting && current().sessions.next) this.ask('more');
  });

  connected() {
    this.watch(({ sessions }) => sessions, (list) => this.#show(list));
    this.watch(({ conversation }) => conversation.id, (id) => this.#mark(id));
    this.#nearEnd.observe(this.#more);
    this.untilGone(() => this.#nearEnd.disconnect());
    this.addEventListener('keydown', (event) => this.#onKey(event));
  }

  /** @param {SessionList} list */
  #show(list) {
    const now = new Date();
    /** @type {Map<string, SomaSessionItem[]>} */
    const byDay = new Map();
    for (const session of list.items) {
      const day = dayHeading(new Date(session.updated_at), now);
      byDay.set(day, [...(byDay.get(day) ?? []), this.#row(session)]);
    }
    const listed = new Set(list.items.map((session) => session.session_id));
    for (const id of [...this.#rows.keys()]) if (!listed.has(id)) this.#rows.delete(id);
    const groups = [...byDay].map(([day, rows]) => this.#day(day, rows));
    const note = noteFor(list);
    this.#note.textContent = note;
    this.#more.hidden = list.next === null;
    arrange(this, [...groups, ...(note ? [this.#note] : []), this.#more]);
    this.#mark(current().conversation.id);
  }

  /** @param {SessionSummary} session */
  #row(session) {
    const row = this.#rows.get(session.session_id) ?? new SomaSessionItem();
    row.session = session;
    this.#rows.set(session.session_id, row);
    return row;
  }

  /** @param {string} day @param {SomaSessionItem[]} rows */
  #day(day, rows) {
    const group = this.#days.get(day) ?? h('section', { class: 'day', 'aria-label': day }, h('h2', { text: day }), h('ul'));
    this.#days.set(day, group);
    const list = /** @type {Element} */ (group.lastChild);
    const items = rows.map((row) => row.parentElement ?? h('li', {}, row));
    arrange(list, items);
    return group;
  }

  /** @param {string} id */
  #mark(id) {
    for (const [key, row] of this.#rows) row.markOpen(key === id);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (step === 0 || !(event.target instanceof Element) || !event.target.matches('.session')) return;
    const links = [...this.querySelectorAll('.session')];
    const next = links[links.indexOf(event.target) + step];
    event.preventDefault();
    if (next instanceof HTMLElement) next.focus();
  }
}

/** @param {SessionList} list */
function noteFor({ items, phase, query }) {
  if (phase === 'failed') return text.list.failed;
  if (items.length > 0 || phase === 'loading') return '';
  return query ? text.list.noMatch(query) : text.list.none;
}

customElements.define('soma-session-list', SomaSessionList);
