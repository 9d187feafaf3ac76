/**
 * The line above the conversation: its title, the state of the connection, and what can be done with it.
 * @module
 */
/** @import { Conversation } from '../types.js' */
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';
import { openMenu } from './soma-menu.js';
import { renameField } from './rename-field.js';
import './soma-connection.js';

export class SomaHeader extends SomaElement {
  #heading = h('h1');
  #title = h('button', { type: 'button', class: 'title', title: text.session.rename, onclick: () => this.ask('renaming', true) });
  #more = h('button', {
    type: 'button', class: 'icon-button', 'aria-label': text.session.menu, 'aria-haspopup': 'menu', onclick: () => this.#showMenu(),
  }, icon('more'));
  #inspect = h('button', { type: 'button', class: 'icon-button', onclick: () => this.ask('inspect') }, icon('inspect'));

  build() {
    this.append(h('header', {},
      h('button', { type: 'button', class: 'icon-button list-button', 'aria-label': text.list.open, onclick: () => this.ask('list', true) }, icon('menu')),
      this.#heading, h('soma-connection'), this.#inspect, this.#more));
  }

  connected() {
    this.watch(({ conversation: { title, fresh, phase } }) => `${fresh} ${phase} ${title}`, () => this.#show(current().conversation));
    this.watch(({ renaming }) => renaming, (renaming) => {
      if (renaming) this.#rename();
    });
    this.watch(({ inspecting }) => inspecting, (shown) => {
      this.#inspect.setAttribute('aria-pressed', String(shown));
      this.#inspect.setAttribute('aria-label', text.inspector.label);
      this.#inspect.title = `${shown ? text.inspector.hide : text.inspector.show} (i)`;
    });
  }

  /** @param {Conversation} conversation */
  #show({ title, fresh, phase }) {
    const stored = !fresh && phase === 'ready';
    this.#title.textContent = title || text.untitled;
    this.#heading.replaceChildren(stored ? this.#title : title || (phase === 'loading' ? '…' : text.newChat));
    this.#more.hidden = !stored;
    this.#inspect.hidden = phase !== 'ready';
  }

  #rename() {
    const { id, title } = current().conversation;
    const field = renameField(title ?? '', (next) => {
      field.replaceWith(this.#title);
      this.ask('renaming', false);
      if (next !== null) this.ask('rename', { id, title: next });
      this.#title.focus();
    });
    this.#title.replaceWith(field);
    field.select();
  }

  #showMenu() {
    const { paused } = current().conversation;
    openMenu(this.#more, [
      { label: text.session.rename, icon: 'pencil', run: () => this.ask('renaming', true) },
      { label: paused ? text.session.resume : text.session.pause, icon: paused ? 'play' : 'pause', run: () => this.ask('pause') },
      { label: text.session.copyLink, icon: 'link', run: () => this.ask('copy-link') },
      { label: text.session.copyMarkdown, icon: 'copy', run: () => this.ask('copy-markdown') },
      { label: text.session.delete, icon: 'trash', danger: true, run: () => this.ask('delete') },
    ]);
  }
}

customElements.define('soma-header', SomaHeader);
