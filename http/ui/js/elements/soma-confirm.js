/**
 * Asks before something that cannot be undone.
 * @module
 */
import { h } from '../dom.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { SomaDialog } from './dialog.js';

export class SomaConfirm extends SomaDialog {
  /** @returns {'confirm'} */
  get overlay() {
    return 'confirm';
  }

  opening() {
    const { overlay } = current();
    if (overlay?.name !== 'confirm') return;
    const { title, detail, action, run } = overlay;
    this.dialog.className = 'small-dialog';
    this.dialog.setAttribute('aria-labelledby', 'confirm-title');
    this.dialog.setAttribute('aria-describedby', 'confirm-detail');
    this.dialog.replaceChildren(
      h('h2', { id: 'confirm-title', text: title }),
      h('p', { id: 'confirm-detail', text: detail }),
      h('div', { class: 'dialog-actions' },
        h('button', { type: 'button', autofocus: true, onclick: () => this.dialog.close() }, text.cancel),
        h('button', {
          type: 'button', class: 'danger-button',
          onclick: () => {
            this.dialog.close();
            run();
          },
        }, action)));
  }
}

customElements.define('soma-confirm', SomaConfirm);
