/**
 * The state of the live connection in a word, with the seconds to the next attempt.
 * @module
 */
/** @import { Connection } from '../types.js' */
import { h } from '../dom.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';

export class SomaConnection extends SomaElement {
  #word = h('span', { class: 'connection-word' });
  #state = h('span', { class: 'connection-state' }, h('span', { class: 'dot' }), this.#word);
  #now = h('button', { type: 'button', class: 'quiet', onclick: () => this.ask('reconnect') }, text.connection.now);
  /** @type {number | undefined} */
  #tick;

  build() {
    this.setAttribute('role', 'group');
    this.setAttribute('aria-label', text.connection.label);
    this.append(this.#state, this.#now);
  }

  connected() {
    this.watch(({ connection }) => connection, (connection) => this.#show(connection));
    this.untilGone(() => clearInterval(this.#tick));
  }

  /** @param {Connection} connection */
  #show(connection) {
    clearInterval(this.#tick);
    this.dataset.state = connection.kind;
    this.#state.title = text.connection.hints[connection.kind];
    this.#now.hidden = connection.kind !== 'waiting';
    this.#word.textContent = wordFor(connection);
    if (connection.kind === 'waiting') {
      this.#tick = setInterval(() => {
        this.#word.textContent = wordFor(current().connection);
      }, 250);
    }
  }
}

/** @param {Connection} connection */
function wordFor(connection) {
  switch (connection.kind) {
    case 'waiting': return text.connection.waiting(Math.max(1, Math.ceil((connection.until - Date.now()) / 1000)));
    case 'signed-out': return text.connection.signedOut;
    default: return text.connection[connection.kind];
  }
}

customElements.define('soma-connection', SomaConnection);
