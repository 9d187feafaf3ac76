/**
 * What a person said and the answer to it.
 * @module
 */
/** @import { Said, Turn } from '../types.js' */
import { arrange, h } from '../dom.js';
import { icon } from '../icons.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';
import { SomaAnswer } from './soma-answer.js';
import './soma-time.js';

export class SomaTurn extends SomaElement {
  /** @type {Turn | null} */
  #turn = null;
  #state = '';
  #time = h('soma-time');
  #text = h('div', { class: 'said-text' });
  #delivery = h('div', { class: 'delivery' });
  #said = h('section', { class: 'said entry' },
    h('div', { class: 'who' }, h('h2', { text: text.you }), this.#time), h('div', { class: 'body' }, this.#text, this.#delivery));
  #answer = new SomaAnswer();

  /** @param {Turn} turn @param {boolean} isRunning  this one is being answered now @param {boolean} isLast */
  show(turn, isRunning, isLast) {
    const state = `${isRunning} ${isLast}`;
    if (turn === this.#turn && state === this.#state) return;
    this.#turn = turn;
    this.#state = state;
    this.classList.toggle('last', isLast);
    if (turn.said) this.#showSaid(turn, turn.said, isRunning);
    const waits = turn.said !== null && turn.said.delivery !== 'failed' && (isRunning || (isLast && turn.answer === null));
    if (turn.answer || waits) this.#answer.show(turn, isLast);
    arrange(this, [...(turn.said ? [this.#said] : []), ...(turn.answer || waits ? [this.#answer] : [])]);
  }

  /** @param {Turn} turn @param {Said} said @param {boolean} isRunning */
  #showSaid(turn, said, isRunning) {
    if (this.#text.textContent !== said.text) this.#text.textContent = said.text;
    this.#time.at = said.at;
    this.#said.dataset.delivery = said.delivery;
    if (said.delivery === 'failed') this.#delivery.replaceChildren(...this.#failed(turn.key, said));
    else if (said.delivery === 'sending') this.#delivery.textContent = text.transcript.sending;
    else this.#delivery.textContent = turn.answer === null && !isRunning && !this.classList.contains('last') ? text.transcript.queued : '';
  }

  /** @param {string} key @param {Said} said */
  #failed(key, said) {
    return [
      h('p', { role: 'alert' }, icon('alert'), h('span', {}, h('strong', { text: text.transcript.failed }), ` ${said.problem?.detail ?? ''}`)),
      h('button', { type: 'button', class: 'small', onclick: () => this.ask('resend', key) }, icon('retry'), text.retry),
      h('button', { type: 'button', class: 'small quiet', onclick: () => this.ask('discard', key) }, text.session.delete),
    ];
  }
}

customElements.define('soma-turn', SomaTurn);
