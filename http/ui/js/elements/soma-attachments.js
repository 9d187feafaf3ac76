/**
 * The files of a message that was sent.
 * @module
 */
import { arrange, h } from '../dom.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';
import { SomaAttachment } from './soma-attachment.js';

export class SomaAttachments extends SomaElement {
  /** @type {Map<string, SomaAttachment>} */
  #shown = new Map();
  #list = h('div', { class: 'files', role: 'list', 'aria-label': text.files.attached });

  build() {
    this.append(this.#list);
  }

  /** @param {readonly string[]} ids @param {ReadonlyMap<string, string>} refused  why the message was not taken, by the attachment that is at fault */
  show(ids, refused) {
    this.hidden = ids.length === 0;
    const rows = ids.map((id) => {
      const row = this.#shown.get(id) ?? new SomaAttachment(id);
      this.#shown.set(id, row);
      row.refused = refused.get(id) ?? null;
      return row;
    });
    arrange(this.#list, rows);
  }
}

customElements.define('soma-attachments', SomaAttachments);
