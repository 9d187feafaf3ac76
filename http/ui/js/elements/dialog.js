/**
 * What the page's dialogs share: shown while the state names them, modal, closed by Escape or a click beside them.
 * @module
 */
/** @import { Overlay } from '../types.js' */
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';

export class SomaDialog extends SomaElement {
  /** The overlay this dialog is. @type {NonNullable<Overlay>['name']} */
  get overlay() {
    throw new Error('a dialog names its overlay');
  }

  dialog = h('dialog', {
    onclose: () => {
      if (current().overlay?.name === this.overlay) this.ask('overlay', null);
    },
    onclick: (/** @type {MouseEvent} */ event) => {
      if (event.target === this.dialog) this.dialog.close();
    },
  });

  build() {
    this.append(this.dialog);
  }

  connected() {
    this.watch(({ overlay }) => overlay, (overlay) => {
      if (overlay?.name === this.overlay) this.#open();
      else this.dialog.close();
    });
  }

  #open() {
    this.opening();
    if (!this.dialog.open) this.dialog.showModal();
    this.opened();
  }

  /** Fills the dialog before it is shown. */
  opening() {}

  /** Runs when the dialog is shown. */
  opened() {}

  /** @param {string} title @param {...Node} more  between title and close button */
  heading(title, ...more) {
    const id = `${this.overlay}-title`;
    this.dialog.setAttribute('aria-labelledby', id);
    return h('div', { class: 'dialog-top' }, h('h2', { id, text: title }), ...more,
      h('button', { type: 'button', class: 'icon-button', 'aria-label': text.close, onclick: () => this.dialog.close() }, icon('close')));
  }
}
