/**
 * A moment in relative words, the exact time on hover and in `datetime`.
 * @module
 */
import { h } from '../dom.js';
import { ago, exact } from '../time.js';
import { SomaElement } from './element.js';

const EVERY_MS = 30_000;
/** @type {Set<SomaTime>} */
const shown = new Set();
setInterval(() => shown.forEach((time) => time.refresh()), EVERY_MS);

export class SomaTime extends SomaElement {
  /** @type {Date | null} */
  #at = null;
  #time = h('time');

  build() {
    this.append(this.#time);
  }

  connected() {
    shown.add(this);
    this.untilGone(() => shown.delete(this));
    this.refresh();
  }

  /** @param {string | null} at  RFC 3339; null shows nothing */
  set at(at) {
    if (at === (this.#at && this.#time.dateTime)) return;
    this.#at = at === null ? null : new Date(at);
    this.#time.dateTime = at ?? '';
    this.#time.title = this.#at ? exact(this.#at) : '';
    this.refresh();
  }

  refresh() {
    const words = this.#at ? ago(this.#at, new Date()) : '';
    if (this.#time.textContent !== words) this.#time.textContent = words;
  }
}

customElements.define('soma-time', SomaTime);
