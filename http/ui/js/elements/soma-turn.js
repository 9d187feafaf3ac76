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

  /** @param {Turn} turn @param {'running' | 'queued' | 'still'} place @param {boolean} isLast */
  show(turn, place, isLast) {
    const state = `${place} ${isLast}`;
    if (turn === this.#turn && state === this.#state) return;
    this.#turn = turn;
    this.#state = state;
    this.classList.toggle('last', isLast);
    if (turn.said) this.#showSaid(turn.key, turn.said, place);
    const waits = turn.said !== null && turn.said.delivery !== 'failed' && (place === 'running' || (place === 'still' && isLast));
    const answers = turn.answer !== null || waits;
    if (answers) this.#answer.show(turn, isLast);
    arrange(this, [...(turn.said ? [this.#said] : []), ...(answers ? [this.#answer] : [])]);
  }

  /** @param {string} key @param {Said} said @param {string} place */
  #showSaid(key, said, place) {
    if (this.#text.textContent !== said.text) this.#text.textContent = said.text;
    this.#time.at = said.at;
    this.#said.dataset.delivery = said.delivery;
    if (said.delivery === 'failed') this.#delivery.replaceChildren(...this.#failed(key, said));
    else if (said.delivery === 'sending') this.#delivery.textContent = text.transcript.sending;
    else this.#delivery.textContent = place === 'queued' ? text.transcript.queued : '';
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
