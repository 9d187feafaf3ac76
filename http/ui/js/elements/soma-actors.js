/**
 * The supervision tree: every actor with its state, restarts, mailbox and last error.
 * @module
 */
import * as api from '../api.js';
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { text } from '../strings.js';
import { span } from '../time.js';
import { SomaDialog } from './dialog.js';

const words = text.actors;
const EVERY_MS = 2000;

/**
 * One actor, or many of one kind.
 * @typedef {object} Row
 * @property {string} path
 * @property {string} state
 * @property {number} restarts
 * @property {number} depth
 * @property {number} capacity
 * @property {number | null} oldest_message_age_ms
 * @property {string | null} last_error
 * @property {number} [count]                   how many the row stands for
 * @property {Record<string, number>} [states]  how many of them are in each state
 */

export class SomaActors extends SomaDialog {
  /** @returns {'actors'} */
  get overlay() {
    return 'actors';
  }

  #body = h('tbody');
  #note = h('p', { class: 'list-note' });
  /** @type {number | undefined} */
  #timer;

  build() {
    super.build();
    this.dialog.className = 'wide-dialog';
    this.dialog.append(
      this.heading(words.title),
      h('p', { class: 'dialog-lead', text: words.detail }),
      h('div', { class: 'table-scroll', tabindex: 0, role: 'group', 'aria-label': words.title },
        h('table', { class: 'actors' }, h('thead', {}, h('tr', {}, words.columns.map((name) => h('th', { scope: 'col', text: name })))), this.#body)),
      this.#note);
    this.dialog.addEventListener('close', () => clearTimeout(this.#timer));
  }

  async opened() {
    clearTimeout(this.#timer);
    try {
      const { actors } = await api.actors();
      this.#note.textContent = actors.length === 0 ? words.none : '';
      this.#body.replaceChildren(...actors.map(actorRow));
    } catch (error) {
      this.#note.textContent = `${words.failed} ${api.problemOf(error).detail}`;
    }
    if (this.dialog.open) this.#timer = setTimeout(() => this.opened(), EVERY_MS);
  }
}

/** @param {Row} row */
function actorRow({ path, state, restarts, depth, capacity, oldest_message_age_ms: age, last_error, count, states }) {
  const parts = path.split('/');
  const name = parts.pop();
  const doing = states ? Object.entries(states).map(([word, many]) => `${many} ${word}`).join(', ') : state;
  return h('tr', { class: restarts > 0 ? 'restarted' : null },
    h('th', { scope: 'row' }, h('span', { class: 'actor-parents', text: parts.map((part) => `${part}/`).join('') }), name, count !== undefined && ` × ${count}`),
    h('td', { text: doing }),
    h('td', { class: 'number', text: restarts }),
    h('td', { class: 'number', text: capacity > 0 ? `${depth} / ${capacity}` : '' }),
    h('td', { class: 'number', text: age ? span(age) : '' }),
    h('td', { class: 'last-error' }, last_error && icon('alert'), last_error));
}

customElements.define('soma-actors', SomaActors);
