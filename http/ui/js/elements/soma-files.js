/**
 * The files of the message that is being written, and why others were not added.
 * @module
 */
/** @import { State, Upload } from '../types.js' */
import { arrange, h } from '../dom.js';
import { isRefused, ofSession } from '../files/uploads.js';
import { icon } from '../icons.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';
import { SomaFile } from './soma-file.js';

export class SomaFiles extends SomaElement {
  /** @type {Map<string, SomaFile>} */
  #rows = new Map();
  /** Whose turn it is to have the focus, after a file was removed that had it. @type {string | null | undefined} */
  #next;
  /** Those known to be refused. @type {Set<string>} */
  #refused = new Set();
  #list = h('div', { class: 'files', role: 'list', 'aria-label': text.files.label });
  #unadded = h('div', { class: 'unadded' });

  build() {
    this.append(this.#unadded, this.#list);
    this.addEventListener('leave', (event) => this.#leave(/** @type {CustomEvent} */ (event).detail));
  }

  connected() {
    /** @type {{id: string, uploads: readonly Upload[], mine: Upload[]}} */
    let last = { id: '', uploads: [], mine: [] };
    this.watch(({ uploads, conversation: { id } }) => {
      if (uploads !== last.uploads || id !== last.id) last = { id, uploads, mine: ofSession(uploads, id) };
      return last.mine;
    }, (mine) => this.#show(mine));
    this.watch(({ unadded, conversation }) => (unadded?.session === conversation.id ? unadded : null), (unadded) => this.#explain(unadded));
  }

  /** @param {Upload[]} uploads */
  #show(uploads) {
    const rows = uploads.map((upload) => {
      const row = this.#rows.get(upload.key) ?? new SomaFile();
      this.#rows.set(upload.key, row);
      row.show(upload);
      return row;
    });
    for (const key of [...this.#rows.keys()]) if (!uploads.some((upload) => upload.key === key)) this.#rows.delete(key);
    this.#list.hidden = rows.length === 0;
    const before = this.#list.childElementCount;
    arrange(this.#list, rows);
    if (rows.length > before) this.#list.scrollTop = this.#list.scrollHeight;
    this.#showRefused(uploads);
    if (this.#next !== undefined) this.#giveFocus();
  }

  /** What holds the message back comes into view. @param {Upload[]} uploads */
  #showRefused(uploads) {
    const refused = uploads.find((upload) => isRefused(upload) && !this.#refused.has(upload.key));
    this.#refused = new Set(uploads.filter(isRefused).map(({ key }) => key));
    if (refused) this.#rows.get(refused.key)?.scrollIntoView({ block: 'nearest' });
  }

  /** @param {State['unadded']} unadded */
  #explain(unadded) {
    this.#unadded.hidden = unadded === null;
    this.#unadded.replaceChildren(...(unadded === null ? [] : [
      icon('alert'),
      h('ul', {}, unadded.reasons.map((reason) => h('li', { text: reason }))),
      h('button', { type: 'button', class: 'icon-button', 'aria-label': text.files.hideUnadded, onclick: () => this.ask('hide-unadded') }, icon('close')),
    ]));
  }

  /** @param {string} key */
  #leave(key) {
    const keys = [...this.#rows.keys()];
    const at = keys.indexOf(key);
    this.#next = keys[at + 1] ?? keys[at - 1] ?? null;
    this.ask('remove-file', key);
  }

  /** Who removes one file after the other stays where they are; after the last one the application finds a place. */
  #giveFocus() {
    if (this.#next) this.#rows.get(this.#next)?.focus();
    this.#next = undefined;
  }
}

customElements.define('soma-files', SomaFiles);
