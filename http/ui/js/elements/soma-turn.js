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
import { SomaAttachments } from './soma-attachments.js';
import './soma-time.js';

export class SomaTurn extends SomaElement {
  /** @type {Turn | null} */
  #turn = null;
  #state = '';
  #time = h('soma-time');
  #text = h('div', { class: 'said-text' });
  /** Most messages have none. @type {SomaAttachments | null} */
  #attachments = null;
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
    this.#text.hidden = said.text === '' && said.attachments.length > 0;
    const refused = refusedOf(said);
    this.#showAttachments(said.attachments, refused);
    this.#time.at = said.at;
    this.#said.dataset.delivery = said.delivery;
    if (said.delivery === 'failed') this.#delivery.replaceChildren(...this.#failed(key, said, refused));
    else if (said.delivery === 'sending') this.#delivery.textContent = text.transcript.sending;
    else this.#delivery.textContent = place === 'queued' ? text.transcript.queued : '';
  }

  /** @param {string[]} ids @param {ReadonlyMap<string, string>} refused */
  #showAttachments(ids, refused) {
    if (ids.length === 0 && this.#attachments === null) return;
    this.#attachments ??= new SomaAttachments();
    this.#attachments.show(ids, refused);
    if (!this.#attachments.isConnected) this.#text.after(this.#attachments);
  }

  /** @param {string} key @param {Said} said @param {ReadonlyMap<string, string>} refused */
  #failed(key, said, refused) {
    const without = [...refused.keys()];
    // A message that would say nothing is not worth another try.
    const isEmpty = said.text === '' && without.length === said.attachments.length;
    return [
      h('p', { role: 'alert' }, icon('alert'), h('span', {}, h('strong', { text: text.transcript.failed }), ` ${said.problem?.detail ?? ''}`)),
      !isEmpty && h('button', { type: 'button', class: 'small', onclick: () => this.ask('resend', { key, without }) },
        icon('retry'), without.length > 0 ? text.files.without(without.length) : text.retry),
      h('button', { type: 'button', class: 'small quiet', onclick: () => this.ask('discard', key) }, text.session.delete),
    ].filter((part) => part !== false);
  }
}

/** The attachments for which a message was refused, and why. @param {Said} said @returns {Map<string, string>} */
function refusedOf({ attachments, problem }) {
  if (problem?.code !== 'attachment-not-found') return new Map();
  return new Map((problem.places ?? []).flatMap(({ loc, msg }) => {
    const id = attachments[Number(loc.at(-1))];
    return id === undefined ? [] : [[id, msg]];
  }));
}

customElements.define('soma-turn', SomaTurn);
