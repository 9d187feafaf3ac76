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
 * One actor, or all short-lived ones of one name under one supervisor.
 * @typedef {object} Row
 * @property {string} path
 * @property {string} [state]
 * @property {number} [restarts]
 * @property {number} [instances]               of a group
 * @property {Record<string, number>} [states]  of a group: how many are in each
 * @property {number} mailbox_depth
 * @property {number} mailbox_capacity
 * @property {number | null} [oldest_message_age_ms]
 * @property {string | null} [last_error]
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
      const rows = actorRows(await api.actors());
      this.#note.textContent = rows.length === 0 ? words.none : '';
      this.#body.replaceChildren(...rows.map(actorRow));
    } catch (error) {
      this.#note.textContent = `${words.failed} ${api.problemOf(error).detail}`;
    }
    if (this.dialog.open) this.#timer = setTimeout(() => this.opened(), EVERY_MS);
  }
}

/** @param {Row} row */
function actorRow({ path, state, restarts, instances, states, mailbox_depth, mailbox_capacity, oldest_message_age_ms: age, last_error }) {
  const parts = path.split('/');
  const name = parts.pop();
  const doing = state ?? Object.entries(states ?? {}).map(([word, many]) => `${many} ${word}`).join(', ');
  return h('tr', { class: restarts ? 'restarted' : null },
    h('th', { scope: 'row' }, h('span', { class: 'actor-parents', text: parts.map((part) => `${part}/`).join('') }), name, instances !== undefined && ` × ${instances}`),
    h('td', { text: doing }),
    h('td', { class: 'number', text: restarts ?? '' }),
    h('td', { class: 'number', text: mailbox_capacity > 0 ? `${mailbox_depth} / ${mailbox_capacity}` : '' }),
    h('td', { class: 'number', text: age ? span(age) : '' }),
    h('td', { class: 'last-error' }, last_error && icon('alert'), last_error));
}

/** @param {any} answer @returns {Row[]} groups stand behind the actors of their supervisor */
function actorRows(answer) {
  const rows = [...(answer?.actors ?? []), ...(answer?.groups ?? [])];
  return rows.sort((a, b) => (a.path < b.path ? -1 : 1));
}

customElements.define('soma-actors', SomaActors);
