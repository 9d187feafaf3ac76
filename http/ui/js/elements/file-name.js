/**
 * The name of a file, cut in its middle where there is no room.
 * @module
 */
import { h } from '../dom.js';
import { parts, shown } from '../files/words.js';

/** @param {string} name @param {string} [tag] @param {Record<string, unknown>} [props] */
export function fileName(name, tag = 'span', props = {}) {
  const [head, end] = parts(name);
  return h(tag, { class: 'file-name', title: shown(name), ...props },
    h('bdi', { class: 'file-head', text: head }), end && h('bdi', { class: 'file-end', text: end }));
}
