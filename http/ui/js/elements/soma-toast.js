/**
 * One line that says what just happened, for a moment.
 * @module
 */
import { SomaElement } from './element.js';

export class SomaToast extends SomaElement {
  build() {
    this.setAttribute('role', 'status');
  }

  connected() {
    this.watch(({ toast }) => toast, (line) => {
      this.classList.toggle('shown', line !== null);
      this.textContent = line ?? '';
    });
  }
}

customElements.define('soma-toast', SomaToast);
