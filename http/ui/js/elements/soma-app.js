/**
 * The frame of the page: places the parts and carries out what they ask for.
 * @module
 */
import { h } from '../dom.js';
import { intents } from '../intents.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';
import './soma-actors.js';
import './soma-announcer.js';
import './soma-composer.js';
import './soma-confirm.js';
import './soma-drop.js';
import './soma-header.js';
import './soma-inspector.js';
import './soma-keys.js';
import './soma-menu.js';
import './soma-notices.js';
import './soma-palette.js';
import './soma-settings.js';
import './soma-sidebar.js';
import './soma-toast.js';
import './soma-transcript.js';

/** Below this width the list slides over the conversation. */
const NARROW = matchMedia('(max-width: 899px)');
const HAS_KEYBOARD = matchMedia('(pointer: fine)');

export class SomaApp extends SomaElement {
  #sidebar = h('soma-sidebar');
  #inspector = h('soma-inspector');
  #scrim = h('div', { class: 'scrim', onclick: () => intents.list(false) });

  build() {
    this.addEventListener('soma', (event) => {
      const { name, detail } = /** @type {CustomEvent} */ (event).detail;
      intents[name](detail);
      // A control that is gone after it was used must not take the focus with it.
      setTimeout(() => {
        if (document.activeElement === document.body && HAS_KEYBOARD.matches) this.querySelector('textarea')?.focus();
      });
    });
    this.append(
      h('a', { class: 'skip', href: '#message', onclick: (/** @type {Event} */ event) => this.#skip(event) }, text.composer.label),
      this.#sidebar, this.#scrim,
      h('main', {}, h('soma-header'), h('soma-notices'), h('soma-transcript'), h('soma-composer'), h('soma-menu'), h('soma-drop')),
      this.#inspector,
      h('soma-palette'), h('soma-keys'), h('soma-settings'), h('soma-actors'), h('soma-confirm'),
      h('soma-toast'), h('soma-announcer'),
    );
  }

  connected() {
    this.watch(({ listOpen }) => listOpen, (open) => this.#showList(open));
    this.watch(({ inspecting }) => inspecting, (shown) => this.classList.toggle('inspecting', shown));
    this.watch(({ conversation }) => conversation.title, (title) => {
      document.title = title ? `${title} · ${text.product}` : text.product;
    });
    const onWidth = () => this.#showList(this.classList.contains('list-open'));
    NARROW.addEventListener('change', onWidth);
    this.untilGone(() => NARROW.removeEventListener('change', onWidth));
  }

  /** @param {boolean} open */
  #showList(open) {
    const was = this.classList.contains('list-open');
    this.classList.toggle('list-open', open);
    // What is slid away must not be reachable by Tab.
    this.#sidebar.inert = NARROW.matches && !open;
    if (open && !was) this.#sidebar.querySelector('button, a')?.focus();
    else if (was && !open) /** @type {HTMLElement | null} */ (this.querySelector('.list-button'))?.focus();
  }

  /** @param {Event} event */
  #skip(event) {
    event.preventDefault();
    this.querySelector('textarea')?.focus();
  }
}

customElements.define('soma-app', SomaApp);
