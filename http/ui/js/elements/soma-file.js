/**
 * A file of the message that is being written: what it is, how far it has come, and what the server says of it.
 * @module
 */
/** @import { Upload } from '../types.js' */
import { arrange, h } from '../dom.js';
import { canRetry, fileOf, isGoing, isRefused, isUnderWay } from '../files/uploads.js';
import { said, size, typeWord } from '../files/words.js';
import { icon } from '../icons.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';
import { fileName } from './file-name.js';
import { SomaThumb } from './soma-thumb.js';

export class SomaFile extends SomaElement {
  /** @type {Upload | null} */
  #upload = null;
  #name = '';
  #thumb = new SomaThumb();
  #title = h('div');
  #state = h('div', { class: 'file-state' });
  #progress = h('progress', { max: 1 });
  #words = h('div', { class: 'file-words' }, this.#title, this.#state);
  #retry = h('button', { type: 'button', class: 'icon-button', onclick: () => this.#onRetry() }, icon('retry'));
  #remove = h('button', { type: 'button', class: 'icon-button', onclick: () => this.#onRemove() }, icon('close'));
  #buttons = h('div', { class: 'file-buttons' }, this.#remove);

  build() {
    this.setAttribute('role', 'listitem');
    this.append(this.#thumb, this.#words, this.#buttons);
  }

  /** @param {Upload} upload */
  show(upload) {
    if (upload === this.#upload) return;
    this.#upload = upload;
    const { key, name, phase, type, id } = upload;
    this.dataset.phase = phase;
    this.#thumb.show({ type, id, file: fileOf(key) });
    if (name !== this.#name) this.#showName(name);
    this.#state.replaceChildren(...stateOf(upload));
    if (isGoing(phase)) this.#progress.value = upload.sent;
    arrange(this.#words, [this.#title, this.#state, ...(isGoing(phase) ? [this.#progress] : [])]);
    label(this.#remove, (isUnderWay(upload) ? text.files.cancel : text.files.remove)(said(name)));
    arrange(this.#buttons, [...(mayRetry(upload) ? [this.#retry] : []), this.#remove]);
  }

  /** @param {string} name */
  #showName(name) {
    this.#name = name;
    const title = fileName(name);
    this.#title.replaceWith(title);
    this.#title = title;
    this.#progress.setAttribute('aria-label', text.files.progress(said(name)));
    label(this.#retry, text.files.retry(said(name)));
  }

  /** Takes the focus. */
  focus() {
    this.#remove.focus();
  }

  #onRemove() {
    this.dispatchEvent(new CustomEvent('leave', { bubbles: true, detail: this.#upload?.key }));
  }

  #onRetry() {
    // The button is gone when it was used.
    this.#remove.focus();
    this.ask('retry-file', this.#upload?.key);
  }
}

/** @param {HTMLElement} button @param {string} name */
function label(button, name) {
  if (button.getAttribute('aria-label') === name) return;
  button.setAttribute('aria-label', name);
  button.title = name;
}

/** A quarantined file is worth another try only if it was not found harmful. @param {Upload} upload */
function mayRetry({ key, phase, problem, reason }) {
  if (fileOf(key) === null) return false;
  return phase === 'paused' || (phase === 'refused' && problem !== null && canRetry(problem)) || (phase === 'quarantined' && reason === 'av_error');
}

/** @param {Upload} upload @returns {Node[]} */
function stateOf(upload) {
  const { phase, sent, size: bytes, type, name, reason, problem } = upload;
  const line = (/** @type {string} */ words) => h('span', { text: words });
  if (isRefused(upload)) {
    return [icon(phase === 'quarantined' ? 'shield' : 'alert'), line(phase === 'quarantined' ? text.files.quarantine(reason) : problem?.detail ?? '')];
  }
  const what = `${typeWord(type, name)} · ${size(bytes)}`;
  switch (phase) {
    case 'waiting': return [line(`${what} · ${text.files.waiting}`)];
    case 'sending': return [line(text.files.sending(Math.floor(100 * sent), size(bytes)))];
    case 'paused': return [line(text.files.stopped(Math.floor(100 * sent), size(bytes)))];
    case 'checking': return [line(`${what} · ${text.files.checking}`)];
    default: return [line(`${what} · `), h('span', { class: 'accepted' }, icon('check'), text.files.accepted)];
  }
}

customElements.define('soma-file', SomaFile);
