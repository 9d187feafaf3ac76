/**
 * What a person should know about the answers here: no model, no memory, paused, signed out.
 * @module
 */
/** @import { State } from '../types.js' */
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';

/** @typedef {{tone: 'plain' | 'warn', line: string, detail?: string, button?: [string, () => void], dismiss?: () => void}} Notice */

export class SomaNotices extends SomaElement {
  build() {
    this.setAttribute('role', 'status');
    this.setAttribute('aria-label', text.notices.label);
  }

  connected() {
    /** @type {Notice[]} */
    let notices = [];
    this.watch((state) => {
      const next = this.#notices(state);
      // The same notices keep their elements, and with them the focus.
      if (JSON.stringify(next) !== JSON.stringify(notices)) notices = next;
      return notices;
    }, (shown) => this.replaceChildren(...shown.map(noticeElement)));
  }

  /** @param {Readonly<State>} state @returns {Notice[]} */
  #notices({ config, memory, conversation, connection, offlineNoteHidden }) {
    /** @type {Notice[]} */
    const notices = [];
    if (connection.kind === 'signed-out') {
      notices.push(config?.sign_in?.enabled
        ? { tone: 'warn', line: text.notices.signedOut, button: [text.login.again, () => this.ask('sign-in')] }
        : { tone: 'warn', line: text.notices.signedOutReload });
    }
    if (config?.features?.sse_enabled === false) notices.push({ tone: 'plain', line: text.notices.noStream });
    if (conversation.paused) {
      notices.push({ tone: 'warn', line: text.notices.paused, button: [text.session.resume, () => this.ask('pause')] });
    }
    const recall = conversation.turns.findLast((turn) => turn.answer?.metadata.recall)?.answer?.metadata.recall?.state;
    if (memory === 'down' || recall === 'unavailable') notices.push({ tone: 'warn', line: text.notices.noMemory });
    else if (recall === 'timeout') notices.push({ tone: 'warn', line: text.notices.slowMemory });
    else if (memory === 'degraded') notices.push({ tone: 'plain', line: text.notices.degradedMemory });
    if (config?.responder === 'offline' && !offlineNoteHidden) {
      notices.push({
        tone: 'plain', line: text.notices.offlineResponder, detail: text.notices.offlineHow,
        dismiss: () => this.ask('hide-offline-note'),
      });
    }
    return notices;
  }
}

/** @param {Notice} notice */
function noticeElement({ tone, line, detail, button, dismiss }) {
  return h('p', { class: `notice ${tone}` },
    tone === 'warn' && icon('alert'),
    h('span', { class: 'notice-text' }, line, detail && h('span', { class: 'notice-detail', text: ` ${detail}` })),
    button && h('button', { type: 'button', class: 'quiet', onclick: button[1] }, button[0]),
    dismiss && h('button', { type: 'button', class: 'icon-button', 'aria-label': text.notices.dismiss, onclick: dismiss }, icon('close')));
}

customElements.define('soma-notices', SomaNotices);
