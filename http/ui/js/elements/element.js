/**
 * What all elements of the page share: they are built once, watch the state while they are on the
 * page, and ask for changes by an event that rises to the application.
 * @module
 */
/** @import { State } from '../types.js' */
import { watch } from '../store.js';

export class SomaElement extends HTMLElement {
  #built = false;
  /** @type {(() => void)[]} */
  #ends = [];

  connectedCallback() {
    if (!this.#built) {
      this.#built = true;
      this.build();
    }
    this.connected();
  }

  disconnectedCallback() {
    for (const end of this.#ends.splice(0)) end();
  }

  /** Makes the fixed children; runs once. */
  build() {}

  /** Starts watching; runs each time the element enters the page. */
  connected() {}

  /**
   * @template T
   * @param {(state: Readonly<State>) => T} select @param {(value: T) => void} run
   */
  watch(select, run) {
    this.#ends.push(watch(select, run));
  }

  /** Runs `end` when the element leaves the page. @param {() => void} end */
  untilGone(end) {
    this.#ends.push(end);
  }

  /**
   * Asks the application for something; see `intents.js`.
   * @param {string} name @param {unknown} [detail]
   */
  ask(name, detail) {
    this.dispatchEvent(new CustomEvent('soma', { bubbles: true, detail: { name, detail } }));
  }
}
