/**
 * The list of conversations with its search, and the ways to settings and actors.
 * @module
 */
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { hasCommandKey } from '../keys.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';
import './soma-account.js';
import './soma-session-list.js';

const SEARCH_DELAY_MS = 150;

export class SomaSidebar extends SomaElement {
  #search = h('input', {
    type: 'search', placeholder: text.list.search, 'aria-label': text.list.search, autocomplete: 'off', spellcheck: 'false',
    oninput: () => this.#onSearch(),
    onkeydown: (/** @type {KeyboardEvent} */ event) => this.#onSearchKey(event),
  });
  /** @type {number | undefined} */
  #timer;

  build() {
    this.append(h('nav', { 'aria-label': text.list.label },
      h('div', { class: 'side-top' },
        h('a', { class: 'brand', href: '/', onclick: (/** @type {Event} */ event) => this.#new(event) }, icon('mark'), h('span', { text: text.product })),
        h('button', { type: 'button', class: 'icon-button side-close', 'aria-label': text.list.hide, onclick: () => this.ask('list', false) }, icon('close'))),
      h('div', { class: 'side-actions' },
        h('button', { type: 'button', class: 'new-chat', onclick: () => this.ask('new') }, icon('plus'), h('span', { text: text.newChat })),
        this.#paletteButton(hasCommandKey ? '⌘K' : 'Ctrl K')),
      h('div', { class: 'side-search' }, icon('search'), this.#search),
      h('soma-session-list'),
      h('soma-account'),
      h('div', { class: 'side-foot' },
        this.#footButton('settings', text.settings.title, 'settings'),
        this.#footButton('tree', text.actors.title, 'actors'),
        this.#footButton('keys', text.keys.title, 'keys'))));
  }

  /** @param {string} keys */
  #paletteButton(keys) {
    return h('button', {
      type: 'button', class: 'palette-button quiet', 'aria-label': `${text.palette.label}, ${keys}`, title: text.palette.label,
      onclick: () => this.ask('overlay', { name: 'palette' }),
    }, h('kbd', { text: keys }));
  }

  /** @param {import('../icons.js').IconName} shape @param {string} label @param {string} overlay */
  #footButton(shape, label, overlay) {
    return h('button', { type: 'button', class: 'quiet', onclick: () => this.ask('overlay', { name: overlay }) }, icon(shape), h('span', { text: label }));
  }

  /** @param {Event} event */
  #new(event) {
    event.preventDefault();
    this.ask('new');
  }

  #onSearch() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.ask('search', this.#search.value.trim()), SEARCH_DELAY_MS);
  }

  /** @param {KeyboardEvent} event */
  #onSearchKey(event) {
    if (event.key === 'Escape' && this.#search.value !== '') {
      event.preventDefault();
      this.#search.value = '';
      this.#onSearch();
    } else if (event.key === 'ArrowDown') {
      event.preventDefault();
      /** @type {HTMLElement | null} */ (this.querySelector('.session'))?.focus();
    }
  }
}

customElements.define('soma-sidebar', SomaSidebar);
