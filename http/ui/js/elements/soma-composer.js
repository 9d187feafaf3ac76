/**
 * Where messages are written. Keeps what was typed per conversation, over reloads.
 * @module
 */
/** @import { Conversation, Upload } from '../types.js' */
import { h } from '../dom.js';
import { given } from '../files/given.js';
import { limits } from '../files/limits.js';
import { isAwaited, keepBack, wait } from '../files/awaited.js';
import { isRefused, isUnderWay, ofSession } from '../files/uploads.js';
import { icon } from '../icons.js';
import * as prefs from '../prefs.js';
import { draftName } from '../route.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { runningTurn } from '../turns.js';
import { SomaElement } from './element.js';
import './soma-files.js';

/** A focused field opens the keyboard of a phone, so only others get the focus by themselves. */
const HAS_KEYBOARD = matchMedia('(pointer: fine)');
const GROWS_BY_ITSELF = CSS.supports('field-sizing', 'content');

export class SomaComposer extends SomaElement {
  #conversation = '';
  #field = h('textarea', {
    id: 'message', rows: 1, 'aria-label': text.composer.label, placeholder: text.composer.placeholder, autocomplete: 'off', 'aria-describedby': 'files-reason',
    oninput: () => this.#onInput(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#onKey(event),
  });
  #stop = h('button', { type: 'button', class: 'round stop', 'aria-label': text.composer.stop, title: `${text.composer.stop} (Esc)`, onclick: () => this.#onStop() }, icon('stop'));
  #send = h('button', { type: 'submit', class: 'round send', 'aria-label': text.composer.send, title: `${text.composer.send} (Enter)` }, icon('send'));
  #chooser = h('input', { type: 'file', multiple: true, hidden: true, onchange: () => this.#onChosen() });
  #add = h('button', { type: 'button', class: 'round add', 'aria-label': text.files.add, onclick: () => this.#onAdd() }, icon('clip'));
  #reason = h('p', { id: 'files-reason', class: 'files-reason' });
  #hint = h('p', { class: 'hint' });

  build() {
    this.append(h('form', { onsubmit: (/** @type {Event} */ event) => this.#onSubmit(event) },
      h('div', { class: 'field' }, this.#chooser, this.#add, this.#field, h('div', { class: 'field-buttons' }, this.#stop, this.#send)),
      h('soma-files'), this.#reason, this.#hint));
    // Who takes a file out has changed what the message says.
    this.addEventListener('leave', () => keepBack(this.#conversation), { capture: true });
  }

  connected() {
    this.watch(({ conversation }) => conversation, (conversation) => this.#show(conversation));
    this.watch(({ uploads }) => uploads, () => this.#showSend());
    this.watch(({ awaited }) => awaited, () => this.#showSend());
    this.watch(({ draft }) => draft, (draft) => this.#showDraft(draft));
    this.watch(({ config }) => config, () => this.#showAdd());
    const onPaste = (/** @type {ClipboardEvent} */ event) => this.#onPaste(event);
    document.addEventListener('paste', onPaste);
    this.untilGone(() => document.removeEventListener('paste', onPaste));
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
    const files = this.#files();
    const isEmpty = this.#field.value.trim() === '' && files.length === 0;
    const isBlocked = files.some(isRefused);
    this.#send.disabled = isEmpty || paused || isBlocked;
    this.#send.hidden = isEmpty && !this.#stop.hidden;
    this.#reason.textContent = reasonOf(files, isAwaited(this.#conversation), paused);
  }

  /** Says why no files can be added, where that is so; a button that is switched off could not be asked. */
  #showAdd() {
    const { enabled, allowed } = limits(current().config);
    this.#add.setAttribute('aria-disabled', String(!enabled));
    this.#add.title = enabled ? text.files.add : text.files.off;
    this.#chooser.accept = allowed.join(',');
  }

  /** @returns {Upload[]} */
  #files() {
    return ofSession(current().uploads, this.#conversation);
  }

  #onAdd() {
    if (limits(current().config).enabled) this.#chooser.click();
    else this.#addFiles([]);
  }

  #onChosen() {
    this.#addFiles([...this.#chooser.files]);
    // The same file can be chosen again.
    this.#chooser.value = '';
    this.#focus();
  }

  /** @param {File[]} files @param {string[]} [folders] */
  #addFiles(files, folders = []) {
    this.ask('add-files', { files, folders });
  }

  /** @param {ClipboardEvent} event */
  #onPaste(event) {
    const isElsewhere = event.target !== this.#field && event.target instanceof Element && event.target.matches('input, textarea');
    if (!event.clipboardData || isElsewhere || this.hidden || current().overlay !== null) return;
    // Word processors copy a picture of their text beside it.
    if (event.clipboardData.types.includes('text/html') && event.clipboardData.getData('text/plain').trim() !== '') return;
    const { files, folders } = given(event.clipboardData);
    if (files.length + folders.length === 0) return;
    event.preventDefault();
    this.#addFiles(files, folders);
    this.#focus();
  }

  #focus() {
    if (HAS_KEYBOARD.matches && current().overlay === null && !current().listOpen) this.#field.focus();
  }

  /** @param {string} value */
  #write(value) {
    this.ask('typed', value);
    this.#showDraft(value);
  }

  /** The field is empty once the message has gone. @param {string} draft */
  #showDraft(draft) {
    if (draft === this.#field.value) return;
    this.#field.value = draft;
    this.#grow();
    this.#showSend();
  }

  #grow() {
    if (GROWS_BY_ITSELF) return;
    this.#field.style.height = 'auto';
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }

  #onInput() {
    keepBack(this.#conversation);
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
    const files = this.#files();
    if (files.some(isUnderWay) && !files.some(isRefused)) wait(this.#conversation, this.#field.value.trim());
    if (files.some(isUnderWay) || files.some(isRefused)) {
      this.#showSend();
      this.ask('announce', this.#reason.textContent);
    } else this.#go();
    this.#field.focus();
  }

  #go() {
    const message = this.#field.value.trim();
    const { phase, paused } = current().conversation;
    // Where the history cannot be had the text stays in the field.
    if ((message === '' && this.#files().length === 0) || paused || (phase !== 'ready' && phase !== 'loading')) return;
    keepBack(this.#conversation);
    this.ask('send-draft', { session: this.#conversation, message });
  }

  #onStop() {
    this.ask('stop');
    this.#field.focus();
  }
}

/** Why a message does not go, if its files are the reason. @param {Upload[]} files @param {boolean} isWaiting @param {boolean} paused */
function reasonOf(files, isWaiting, paused) {
  if (files.some(isRefused)) return text.files.blocked;
  if (!isWaiting) return '';
  const count = files.filter(isUnderWay).length;
  if (count > 0) return text.files.untilCome(count);
  return paused ? text.files.untilResumed : text.files.untilLoaded;
}

customElements.define('soma-composer', SomaComposer);
