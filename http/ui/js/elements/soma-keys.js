/**
 * The list of keys.
 * @module
 */
import { h } from '../dom.js';
import { hasCommandKey } from '../keys.js';
import { text } from '../strings.js';
import { SomaDialog } from './dialog.js';

export class SomaKeys extends SomaDialog {
  /** @returns {'keys'} */
  get overlay() {
    return 'keys';
  }

  build() {
    super.build();
    const rows = text.keys.rows.map(([keys, what]) => h('div', {}, h('dt', {}, keys.split(' ').map(key)), h('dd', { text: what })));
    this.dialog.append(this.heading(text.keys.title), h('dl', { class: 'keys' }, rows));
  }
}

/** @param {string} name */
const key = (name) => h('kbd', { text: name === 'Mod' ? (hasCommandKey ? '⌘' : 'Ctrl') : name });

customElements.define('soma-keys', SomaKeys);
