/**
 * Where files are dropped: all of the conversation. Says so while files are dragged over the page.
 * @module
 */
import { h } from '../dom.js';
import { given, hasFiles } from '../files/given.js';
import { limits } from '../files/limits.js';
import { icon } from '../icons.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';

/** A drag that is still there is told of several times a second; one that ended elsewhere may never say so. */
const GONE_MS = 1500;

export class SomaDrop extends SomaElement {
  /** @type {number | undefined} */
  #timer;
  #words = h('p');

  build() {
    this.hidden = true;
    this.setAttribute('aria-hidden', 'true');
    this.append(h('div', { class: 'drop-words' }, icon('clip'), this.#words));
  }

  connected() {
    /** @type {[string, (event: DragEvent) => void][]} */
    const listeners = [['dragover', (event) => this.#onOver(event)], ['dragleave', (event) => this.#onLeave(event)], ['drop', (event) => this.#onDrop(event)]];
    for (const [name, run] of listeners) {
      addEventListener(name, /** @type {EventListener} */ (run));
      this.untilGone(() => removeEventListener(name, /** @type {EventListener} */ (run)));
    }
  }

  /** @param {DragEvent} event */
  #onOver(event) {
    if (!event.dataTransfer || !hasFiles(event.dataTransfer)) return;
    // Else the browser would leave the page and show the file.
    event.preventDefault();
    const isTaken = this.#takes(event);
    event.dataTransfer.dropEffect = isTaken ? 'copy' : 'none';
    this.#words.textContent = isTaken ? text.files.drop : text.files.off;
    this.hidden = !isTaken && limits(current().config).enabled;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#end(), GONE_MS);
  }

  /** @param {DragEvent} event */
  #onLeave(event) {
    // Between two elements of the page there is another one.
    if (event.relatedTarget === null) this.#end();
  }

  /** @param {DragEvent} event */
  #onDrop(event) {
    this.#end();
    if (!event.dataTransfer || !hasFiles(event.dataTransfer)) return;
    event.preventDefault();
    if (!this.#takes(event)) return;
    this.ask('add-files', given(event.dataTransfer));
  }

  #end() {
    clearTimeout(this.#timer);
    this.hidden = true;
  }

  /** Whether files that are dropped there are taken. @param {DragEvent} event */
  #takes({ target }) {
    const { conversation: { phase }, config, overlay } = current();
    const isThere = target instanceof Node && (this.parentElement?.contains(target) ?? false);
    return isThere && overlay === null && phase !== 'missing' && phase !== 'deleted' && limits(config).enabled;
  }
}

customElements.define('soma-drop', SomaDrop);
