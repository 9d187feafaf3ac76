/**
 * Who is signed in, and the way out.
 * @module
 */
/** @import { Person } from '../types.js' */
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { text } from '../strings.js';
import { SomaElement } from './element.js';
import { openMenu } from './soma-menu.js';

export class SomaAccount extends SomaElement {
  #name = h('span', { class: 'account-name' });
  #button = h('button', { type: 'button', class: 'quiet', 'aria-haspopup': 'menu', onclick: () => this.#showMenu() }, icon('person'), this.#name);

  build() {
    this.append(this.#button);
  }

  connected() {
    // Who came with a token from elsewhere goes back there to be rid of it.
    this.watch(({ person, connection }) => (person?.provider_login && connection.kind !== 'signed-out' ? person : null), (person) => this.#show(person));
  }

  /** @param {Person | null} person */
  #show(person) {
    this.hidden = person === null;
    const name = person?.name || person?.subject || '';
    this.#name.textContent = name;
    this.#button.title = person ? `${name} · ${person.tenant}` : '';
    this.#button.setAttribute('aria-label', text.login.account(name));
  }

  #showMenu() {
    openMenu(this.#button, [
      { label: text.login.out, icon: 'leave', run: () => this.ask('sign-out') },
      { label: text.login.outEverywhere, icon: 'leaveAll', run: () => this.ask('sign-out-everywhere') },
    ]);
  }
}

customElements.define('soma-account', SomaAccount);
