/**
 * A file of a message that was sent: what it is and the way to it, or why there is none.
 * @module
 */
import { attachmentPath, problemOf } from '../api.js';
import { arrange, h } from '../dom.js';
import * as kept from '../files/kept.js';
import { said, size, typeWord } from '../files/words.js';
import { icon } from '../icons.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';
import { fileName } from './file-name.js';
import { SomaThumb } from './soma-thumb.js';

/** What the server says of a file that it does not give. @type {Record<string, string>} */
const LOST = {
  'attachment-gone': text.files.gone,
  'attachment-quarantined': text.files.quarantined,
  'attachment-unknown': text.files.unknown,
};

export class SomaAttachment extends SomaElement {
  #id = '';
  #isSeen = false;
  #isKnown = false;
  /** Why a message that named this was refused. @type {string | null} */
  #refused = null;
  #thumb = new SomaThumb();
  #words = h('div', { class: 'file-words' });
  #fault = h('div', { class: 'file-state' });

  /** @param {string} id */
  constructor(id = '') {
    super();
    this.#id = id;
  }

  build() {
    this.setAttribute('role', 'listitem');
    this.#thumb.show({ type: '', id: null });
    this.#words.replaceChildren(h('div', { class: 'file-state', text: text.files.looking }));
    this.append(this.#thumb, this.#words);
  }

  connected() {
    // A long conversation may have many; only those that somebody looks at are asked for.
    const sight = new IntersectionObserver((changes) => {
      this.#isSeen = changes.at(-1)?.isIntersecting ?? false;
      void this.#look();
    });
    sight.observe(this);
    this.untilGone(() => sight.disconnect());
    this.watch(({ connection }) => connection.kind === 'live', () => void this.#look());
  }

  /** @param {string | null} why */
  set refused(why) {
    this.#refused = why;
    this.#showRefused();
  }

  #showRefused() {
    this.classList.toggle('at-fault', this.#refused !== null);
    this.#fault.replaceChildren(...(this.#refused === null ? [] : [icon('alert'), h('span', { text: this.#refused })]));
    if (this.#refused === null) this.#fault.remove();
    else this.#words.append(this.#fault);
  }

  /** Learns what it is; what an answer was missing for is asked for again when it comes into view or the server comes back. */
  async #look() {
    if (!this.#isSeen || this.#isKnown) return;
    this.#isKnown = true;
    try {
      this.#show(await kept.facts(this.#id));
    } catch (error) {
      const { code } = problemOf(error);
      this.#isKnown = Object.hasOwn(LOST, code);
      this.#thumb.replaceChildren(icon(code === 'attachment-quarantined' ? 'shield' : 'file'));
      this.#words.replaceChildren(h('div', { class: 'file-state', text: LOST[code] ?? text.files.failed }));
    }
    this.#showRefused();
  }

  /** @param {kept.FileFacts} facts */
  #show({ name, size: bytes, type }) {
    this.#thumb.show({ type, id: this.#id });
    const link = fileName(name, 'a', { href: attachmentPath(this.#id), download: '', 'aria-label': text.files.download(said(name)) });
    this.#words.replaceChildren(link, h('div', { class: 'file-state', text: `${typeWord(type, name)} · ${size(bytes)}` }));
    arrange(this, [this.#thumb, this.#words, icon('download')]);
  }
}

customElements.define('soma-attachment', SomaAttachment);
