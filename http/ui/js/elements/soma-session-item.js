/**
 * One conversation in the list: a link, its actions, and the field that renames it in place.
 * @module
 */
/** @import { SessionSummary } from '../types.js' */
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { pathOf } from '../route.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';
import { openMenu } from './soma-menu.js';
import { renameField } from './rename-field.js';

export class SomaSessionItem extends SomaElement {
  /** @type {SessionSummary} */
  #session = { session_id: '', created_at: '', updated_at: '' };
  #title = h('span', { class: 'session-title' });
  #link = h('a', { class: 'session', onclick: (/** @type {MouseEvent} */ event) => this.#open(event) }, this.#title);
  #menu = h('button', { type: 'button', class: 'icon-button session-menu', 'aria-haspopup': 'menu', onclick: () => this.#showMenu() }, icon('more'));

  build() {
    this.append(this.#link, this.#menu);
  }

  /** @param {SessionSummary} session */
  set session(session) {
    this.#session = session;
    const title = session.title || text.untitled;
    this.#link.href = pathOf(session.session_id);
    this.#title.textContent = title;
    this.#link.title = title;
    this.#menu.setAttribute('aria-label', text.list.menu(title));
    this.classList.toggle('paused', session.paused === true);
  }

  /** @param {boolean} isOpen */
  markOpen(isOpen) {
    if (isOpen) this.#link.setAttribute('aria-current', 'page');
    else this.#link.removeAttribute('aria-current');
  }

  /** @param {MouseEvent} event */
  #open(event) {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    this.ask('open', this.#session.session_id);
  }

  #showMenu() {
    const id = this.#session.session_id;
    openMenu(this.#menu, [
      { label: text.session.rename, icon: 'pencil', run: () => this.#rename() },
      { label: text.session.delete, icon: 'trash', danger: true, run: () => this.ask('delete', id) },
    ]);
  }

  #rename() {
    const field = renameField(this.#session.title ?? '', (title) => {
      field.replaceWith(this.#link);
      if (title !== null) this.ask('rename', { id: this.#session.session_id, title });
      this.#link.focus();
    });
    this.#link.replaceWith(field);
    field.select();
  }
}

customElements.define('soma-session-item', SomaSessionItem);
