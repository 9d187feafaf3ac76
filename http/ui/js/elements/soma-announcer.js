/**
 * What a screen reader hears of an answer: that it starts, once, and its text when it is complete; and what becomes of files.
 * The transcript itself is a log that stays silent, or every piece of text would be read.
 * @module
 */
/** @import { Turn } from '../types.js' */
import { text } from '../strings.js';
import { isOpen } from '../turns.js';
import { SomaElement } from './element.js';

export class SomaAnnouncer extends SomaElement {
  #conversation = '';
  /** @type {string | null} */
  #started = null;

  build() {
    this.className = 'unseen';
    this.setAttribute('role', 'status');
    this.setAttribute('aria-live', 'polite');
  }

  connected() {
    this.watch(({ conversation }) => conversation, ({ id, turns }) => {
      if (id !== this.#conversation) {
        this.#conversation = id;
        this.#started = null;
        this.textContent = '';
      }
      this.#hear(turns);
    });
    this.watch(({ announced }) => announced, (said) => {
      if (said) this.textContent = said.line;
    });
  }

  /** @param {Turn[]} turns */
  #hear(turns) {
    const begun = turns.find((turn) => turn.answer !== null && isOpen(turn));
    if (begun && begun.key !== this.#started) {
      this.#started = begun.key;
      this.textContent = text.transcript.announceStart;
      return;
    }
    const done = turns.find((turn) => turn.key === this.#started);
    if (!done?.answer || isOpen(done)) return;
    this.#started = null;
    const stopped = done.answer.phase === 'stopped' ? `${text.transcript.announceStopped} ` : '';
    this.textContent = stopped + done.answer.text;
  }
}

customElements.define('soma-announcer', SomaAnnouncer);
