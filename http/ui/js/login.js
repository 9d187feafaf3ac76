/**
 * The page on which people sign in: why they are here, and the way to the provider.
 * @module
 */
/** @import { UiConfig } from './types.js' */
import * as api from './api.js';
import { h } from './dom.js';
import { icon } from './icons.js';
import { signInAddress } from './route.js';
import { text } from './strings.js';

const words = text.login;

class SomaLogin extends HTMLElement {
  #problem = h('div', { class: 'login-problem', role: 'alert' });
  #body = h('p', { class: 'login-body' });
  #action = h('div', { class: 'login-action' });

  connectedCallback() {
    document.title = `${words.title} · ${text.product}`;
    this.append(h('main', { class: 'login' },
      h('h1', { class: 'brand' }, icon('mark'), text.product), this.#problem, this.#body, this.#action));
    void this.#load();
  }

  async #load() {
    try {
      this.#show(await api.config());
    } catch (error) {
      this.#body.textContent = api.problemOf(error).detail;
      this.#action.replaceChildren(h('button', { type: 'button', class: 'primary', onclick: () => location.reload() }, text.retry));
    }
  }

  /** @param {UiConfig} config */
  #show({ sign_in: signIn, features }) {
    const query = new URLSearchParams(location.search);
    const reason = words.problems(query.get('problem') ?? '');
    if (reason) this.#problem.replaceChildren(icon('alert'), h('span', { text: reason }));
    if (signIn?.enabled) {
      this.#body.textContent = words.body;
      this.#action.replaceChildren(h('a', { class: 'sign-in', href: signInAddress(query.get('next') ?? '/') }, words.with(signIn.provider)));
    } else {
      this.#body.textContent = features?.require_auth ? words.off : words.notNeeded;
      this.#action.replaceChildren(features?.require_auth
        ? h('a', { href: '/docs', text: text.settings.api })
        : h('a', { class: 'sign-in', href: '/', text: words.open }));
    }
  }
}

customElements.define('soma-login', SomaLogin);
