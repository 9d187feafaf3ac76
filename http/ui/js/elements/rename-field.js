/**
 * A field that asks for a title in the place of the title.
 * @module
 */
import { h } from '../dom.js';
import { text } from '../strings.js';

/** Most characters of a title. The field counts some of them twice, so it never holds more than the server takes. */
const LONGEST = 80;

/**
 * @param {string} title
 * @param {(title: string | null) => void} done  called once; null when nothing is to change
 * @returns {HTMLInputElement}
 */
export function renameField(title, done) {
  let asked = false;
  const finish = (/** @type {string | null} */ value) => {
    if (asked) return;
    asked = true;
    const trimmed = value?.trim() ?? '';
    done(trimmed === '' || trimmed === title ? null : trimmed);
  };
  const field = h('input', {
    class: 'rename', value: title, 'aria-label': text.session.newTitle, maxlength: LONGEST, autocomplete: 'off',
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.isComposing) return;
      if (event.key === 'Enter') finish(field.value);
      else if (event.key === 'Escape') finish(null);
      else return;
      event.preventDefault();
    },
    onblur: () => finish(field.value),
  });
  return field;
}
