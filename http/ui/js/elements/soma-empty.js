/**
 * What stands in the place of a transcript that has nothing to show, and what to do about it.
 * @module
 */
/** @import { Conversation } from '../types.js' */
import { h } from '../dom.js';
import { ofSession } from '../files/uploads.js';
import { icon } from '../icons.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';

export class SomaEmpty extends SomaElement {
  connected() {
    this.watch(({ conversation, config, uploads }) => `${conversation.phase} ${config?.sign_in?.enabled} ${ofSession(uploads, conversation.id).length > 0}`, () => this.#show(current().conversation));
  }

  /** @param {Conversation} conversation */
  #show({ id, phase, problem }) {
    const newChat = h('button', { type: 'button', class: 'primary', onclick: () => this.ask('new') }, text.newChat);
    switch (phase) {
      case 'missing': return this.#say(text.empty.missingTitle, text.empty.missingBody, newChat);
      case 'deleted': return this.#say(text.empty.deletedTitle, text.empty.deletedBody, newChat);
      case 'failed': return this.#say(text.empty.failedTitle, problem?.detail ?? '', this.#wayOn(problem));
      default: return this.#say(text.empty.title, text.empty.body, ofSession(current().uploads, id).length > 0 ? null : this.#ideas());
    }
  }

  /** @param {string} title @param {string} body @param {HTMLElement | null} action */
  #say(title, body, action) {
    this.replaceChildren(h('div', { class: 'empty' }, icon('mark'), h('h2', { text: title }), h('p', { text: body }), action));
  }

  /** @param {Conversation['problem']} problem */
  #wayOn(problem) {
    const [label, intent] = problem?.status === 401 && current().config?.sign_in?.enabled ? [text.login.again, 'sign-in'] : [text.retry, 'reconnect'];
    return h('button', { type: 'button', class: 'primary', onclick: () => this.ask(intent) }, label);
  }

  #ideas() {
    return h('ul', { class: 'ideas', 'aria-label': text.empty.ideasLabel },
      text.empty.ideas.map((idea) => h('li', {}, h('button', { type: 'button', onclick: () => this.ask('send', { text: idea, attachments: [] }) }, idea))));
  }
}

customElements.define('soma-empty', SomaEmpty);
