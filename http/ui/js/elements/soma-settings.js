/**
 * Colours of this browser, and what the server says about itself.
 * @module
 */
import * as api from '../api.js';
import { h } from '../dom.js';
import { current } from '../store.js';
import { text } from '../strings.js';
import { SomaDialog } from './dialog.js';

const words = text.settings;

export class SomaSettings extends SomaDialog {
  /** @returns {'settings'} */
  get overlay() {
    return 'settings';
  }

  #health = h('dd', { text: '…' });

  opening() {
    const { theme, config } = current();
    const themes = /** @type {const} */ (['system', 'light', 'dark']).map((name) => h('label', {},
      h('input', { type: 'radio', name: 'theme', value: name, checked: name === theme, onchange: () => this.ask('theme', name) }),
      h('span', { text: words.themes[name] })));
    const rows = [
      [words.version, config?.version],
      [words.mode, config?.deployment_mode],
      [words.model, config?.responder === 'offline' ? words.offlineModel : config?.model],
      [words.universe, config?.universe_default],
      [words.namespace, config?.namespace_default],
    ].flatMap(([name, value]) => [h('dt', { text: name }), h('dd', { text: value || words.none })]);
    this.dialog.replaceChildren(
      this.heading(words.title),
      h('fieldset', { class: 'choices' }, h('legend', { text: words.theme }), themes),
      h('h3', { text: words.server }),
      h('dl', {}, rows, h('dt', { text: words.health }), this.#health),
      h('p', {}, h('a', { href: '/docs', target: '_blank', rel: 'noopener', text: words.api })));
  }

  async opened() {
    try {
      const { status, components } = await api.health();
      const bad = Object.entries(components ?? {}).filter(([, part]) => part.status !== 'ok').map(([name, part]) => `${name} ${part.status}`);
      this.#health.textContent = [status, ...bad].join(' · ');
    } catch (error) {
      this.#health.textContent = api.problemOf(error).detail;
    }
  }
}

customElements.define('soma-settings', SomaSettings);
