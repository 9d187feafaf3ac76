/**
 * The one menu of the page, opened beside whatever asks for it.
 * @module
 */
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { SomaElement } from './element.js';

/** @typedef {{label: string, icon: import('../icons.js').IconName, run: () => void, danger?: boolean}} MenuItem */

export class SomaMenu extends SomaElement {
  /** @type {HTMLElement | null} */
  #anchor = null;

  build() {
    this.setAttribute('popover', 'auto');
    this.setAttribute('role', 'menu');
    this.addEventListener('keydown', (event) => this.#onKey(event));
    this.addEventListener('toggle', (event) => {
      if (/** @type {ToggleEvent} */ (event).newState === 'closed') this.#anchor?.setAttribute('aria-expanded', 'false');
    });
  }

  /** @param {HTMLElement} anchor @param {MenuItem[]} items */
  open(anchor, items) {
    this.#anchor = anchor;
    this.replaceChildren(...items.map((item) => h('button', {
      type: 'button', role: 'menuitem', tabindex: -1, class: item.danger ? 'danger' : null,
      onclick: () => {
        this.hidePopover();
        anchor.focus();
        item.run();
      },
    }, icon(item.icon), item.label)));
    this.showPopover();
    anchor.setAttribute('aria-expanded', 'true');
    this.#place(anchor.getBoundingClientRect());
    this.#focus(0);
  }

  /** @param {DOMRect} near */
  #place(near) {
    const { width, height } = this.getBoundingClientRect();
    const left = Math.min(Math.max(8, near.right - width), innerWidth - width - 8);
    const below = near.bottom + 4;
    this.style.left = `${left}px`;
    this.style.top = `${below + height > innerHeight - 8 ? Math.max(8, near.top - height - 4) : below}px`;
  }

  /** @param {number} index */
  #focus(index) {
    const items = [...this.children];
    const item = items[(index + items.length) % items.length];
    if (item instanceof HTMLElement) item.focus();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const at = [...this.children].indexOf(/** @type {Element} */ (document.activeElement));
    if (event.key === 'ArrowDown') this.#focus(at + 1);
    else if (event.key === 'ArrowUp') this.#focus(at - 1);
    else if (event.key === 'Home') this.#focus(0);
    else if (event.key === 'End') this.#focus(-1);
    else if (event.key === 'Tab' || event.key === 'Escape') {
      this.hidePopover();
      this.#anchor?.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

customElements.define('soma-menu', SomaMenu);

/** @param {HTMLElement} anchor @param {MenuItem[]} items */
export function openMenu(anchor, items) {
  const menu = document.querySelector('soma-menu');
  if (menu instanceof SomaMenu) menu.open(anchor, items);
}
