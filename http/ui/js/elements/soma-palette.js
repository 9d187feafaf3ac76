/**
 * Everything the page can do, and every conversation, by typing a part of its name.
 * @module
 */
import * as api from '../api.js';
import { commands } from '../commands.js';
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { SomaDialog } from './dialog.js';

const words = text.palette;
const SEARCH_DELAY_MS = 150;
const MOST_SESSIONS = 8;

/** @typedef {{label: string, icon: import('../icons.js').IconName | null, keys?: string, intent: string, detail?: unknown}} Entry */

export class SomaPalette extends SomaDialog {
  /** @returns {'palette'} */
  get overlay() {
    return 'palette';
  }

  #input = h('input', {
    type: 'text', role: 'combobox', 'aria-label': words.placeholder, 'aria-controls': 'palette-list', 'aria-expanded': 'true', 'aria-autocomplete': 'list',
    placeholder: words.placeholder, autocomplete: 'off', spellcheck: 'false',
    oninput: () => this.#onInput(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#onKey(event),
  });
  #list = h('div', { id: 'palette-list', role: 'listbox', 'aria-label': words.label });
  /** @type {{entry: Entry, row: HTMLElement}[]} */
  #options = [];
  #chosen = 0;
  /** @type {number | undefined} */
  #timer;

  build() {
    super.build();
    this.dialog.className = 'palette';
    this.dialog.setAttribute('aria-label', words.label);
    this.dialog.append(h('div', { class: 'palette-field' }, icon('search'), this.#input), this.#list);
  }

  opening() {
    this.#input.value = '';
    this.#show(current().sessions.items);
  }

  #onInput() {
    this.#show(current().sessions.items);
    clearTimeout(this.#timer);
    const query = this.#input.value.trim();
    if (query) this.#timer = setTimeout(() => void this.#search(query), SEARCH_DELAY_MS);
  }

  /** The list on the page may be one page of many, so the server is asked too. @param {string} query */
  async #search(query) {
    const found = await api.sessions(api.sessionsAddress(query, MOST_SESSIONS)).catch(() => null);
    if (found && query === this.#input.value.trim()) this.#show(found.items);
  }

  /** @param {readonly import('../types.js').SessionSummary[]} sessions */
  #show(sessions) {
    const query = this.#input.value.trim().toLowerCase();
    const fits = (/** @type {string} */ label) => label.toLowerCase().includes(query);
    const runnable = commands(current()).filter((entry) => fits(entry.label));
    const found = sessions.filter((session) => fits(session.title || text.untitled)).slice(0, MOST_SESSIONS)
      .map((session) => ({ label: session.title || text.untitled, icon: null, intent: 'open', detail: session.session_id }));
    this.#options = [];
    const groups = query ? [[words.conversations, found], [words.commands, runnable]] : [[words.commands, runnable], [words.conversations, found]];
    this.#list.replaceChildren(...groups.map(([name, entries]) => this.#group(/** @type {string} */ (name), /** @type {Entry[]} */ (entries))).filter((group) => group !== null));
    if (this.#options.length === 0) this.#list.append(h('p', { class: 'list-note', text: words.none }));
    this.#choose(0);
  }

  /** @param {string} name @param {Entry[]} entries */
  #group(name, entries) {
    if (entries.length === 0) return null;
    return h('div', { role: 'group', 'aria-label': name }, h('p', { class: 'group-name', 'aria-hidden': 'true', text: name }), entries.map((entry) => this.#option(entry)));
  }

  /** @param {Entry} entry */
  #option(entry) {
    const index = this.#options.length;
    const row = h('div', { id: `palette-${index}`, role: 'option', class: 'option', onclick: () => this.#run(entry), onpointermove: () => this.#choose(index) },
      entry.icon && icon(entry.icon), h('span', { class: 'option-label', text: entry.label }), entry.keys && h('kbd', { text: entry.keys }));
    this.#options.push({ entry, row });
    return row;
  }

  /** @param {number} index */
  #choose(index) {
    const count = this.#options.length;
    this.#chosen = count === 0 ? 0 : (index + count) % count;
    this.#options.forEach(({ row }, at) => row.setAttribute('aria-selected', String(at === this.#chosen)));
    const chosen = this.#options[this.#chosen]?.row;
    chosen?.scrollIntoView({ block: 'nearest' });
    this.#input.setAttribute('aria-activedescendant', chosen?.id ?? '');
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.isComposing) return;
    if (event.key === 'ArrowDown') this.#choose(this.#chosen + 1);
    else if (event.key === 'ArrowUp') this.#choose(this.#chosen - 1);
    else if (event.key === 'Enter') this.#run(this.#options[this.#chosen]?.entry);
    else return;
    event.preventDefault();
  }

  /** @param {Entry | undefined} entry */
  #run(entry) {
    if (!entry) return;
    this.dialog.close();
    this.ask('overlay', null);
    this.ask(entry.intent, entry.detail);
  }
}

customElements.define('soma-palette', SomaPalette);
