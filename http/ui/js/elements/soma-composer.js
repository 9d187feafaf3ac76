/**
 * Where messages are written. Keeps what was typed per conversation, over reloads.
 * @module
 */
/** @import { Conversation } from '../types.js' */
import { h } from '../dom.js';
import { icon } from '../icons.js';
import * as prefs from '../prefs.js';
import { draftName } from '../route.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { runningTurn } from '../turns.js';
import { SomaElement } from './element.js';

/** A focused field opens the keyboard of a phone, so only others get the focus by themselves. */
const HAS_KEYBOARD = matchMedia('(pointer: fine)');
const GROWS_BY_ITSELF = CSS.supports('field-sizing', 'content');

export class SomaComposer extends SomaElement {
  #conversation = '';
  #field = h('textarea', {
    id: 'message', rows: 1, 'aria-label': text.composer.label, placeholder: text.composer.placeholder, autocomplete: 'off',
    oninput: () => this.#onInput(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#onKey(event),
  });
  #stop = h('button', { type: 'button', class: 'round stop', 'aria-label': text.composer.stop, title: `${text.composer.stop} (Esc)`, onclick: () => this.#onStop() }, icon('stop'));
  #send = h('button', { type: 'submit', class: 'round send', 'aria-label': text.composer.send, title: `${text.composer.send} (Enter)` }, icon('send'));
  #hint = h('p', { class: 'hint' });

  build() {
    this.append(h('form', { onsubmit: (/** @type {Event} */ event) => this.#onSubmit(event) },
      h('div', { class: 'field' }, this.#field, h('div', { class: 'field-buttons' }, this.#stop, this.#send)), this.#hint));
  }

  connected() {
    this.watch(({ conversation }) => conversation, (conversation) => this.#show(conversation));
  }

  /** @param {Conversation} conversation */
  #show({ id, phase, turns, paused }) {
    this.hidden = phase === 'missing' || phase === 'deleted';
    if (id !== this.#conversation) {
      this.#conversation = id;
      this.#write(prefs.read(draftName(location.pathname)) ?? '');
      this.#focus();
    }
    const running = runningTurn(turns) !== null;
    this.#stop.hidden = !running;
    this.#field.placeholder = paused ? text.composer.paused : text.composer.placeholder;
    this.#hint.textContent = running ? text.composer.hintRunning : text.composer.hint;
    this.#showSend();
  }

  #showSend() {
    const { paused } = current().conversation;
    const isEmpty = this.#field.value.trim() === '';
    this.#send.disabled = isEmpty || paused;
    this.#send.hidden = isEmpty && !this.#stop.hidden;
  }

  #focus() {
    if (HAS_KEYBOARD.matches && current().overlay === null && !current().listOpen) this.#field.focus();
  }

  /** @param {string} value */
  #write(value) {
    this.#field.value = value;
    this.ask('typed', value);
    this.#grow();
    this.#showSend();
  }

  #grow() {
    if (GROWS_BY_ITSELF) return;
    this.#field.style.height = 'auto';
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }

  #onInput() {
    prefs.write(draftName(location.pathname), this.#field.value);
    this.ask('typed', this.#field.value);
    this.#grow();
    this.#showSend();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey) this.#onSubmit(event);
    else if (event.key === 'ArrowUp' && this.#field.value === '') this.#recall(event);
  }

  /** @param {KeyboardEvent} event */
  #recall(event) {
    const last = current().conversation.turns.findLast((turn) => turn.said !== null)?.said;
    if (!last) return;
    event.preventDefault();
    this.#write(last.text);
    this.#onInput();
  }

  /** @param {Event} event */
  #onSubmit(event) {
    event.preventDefault();
    const message = this.#field.value.trim();
    const { phase, paused } = current().conversation;
    // Where the history cannot be had the text stays in the field.
    if (message === '' || paused || (phase !== 'ready' && phase !== 'loading')) return;
    prefs.write(draftName(location.pathname), null);
    this.#write('');
    this.ask('send', message);
    this.#field.focus();
  }

  #onStop() {
    this.ask('stop');
    this.#field.focus();
  }
}

customElements.define('soma-composer', SomaComposer);
