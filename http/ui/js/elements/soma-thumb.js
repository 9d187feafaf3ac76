/**
 * The small picture of a file, or the sign of its kind.
 * @module
 */
import { thumbnailPath } from '../api.js';
import { h } from '../dom.js';
import { kind } from '../files/words.js';
import { icon } from '../icons.js';
import { SomaElement } from './element.js';

/** Kinds of pictures that every browser draws. */
const DRAWN = /^image\/(png|jpeg|gif|webp|bmp|avif)$/;
/** A larger file may be a picture that takes more memory than is worth it here. */
const MOST_BYTES = 32 << 20;
/** As many as the sharpest screens show. */
const SIDE_PX = 120;

export class SomaThumb extends SomaElement {
  #shown = '';

  /** @param {{type: string, id: string | null, file?: File | null}} of */
  show({ type, id, file = null }) {
    const source = `${type} ${file ? 'here' : id}`;
    if (source === this.#shown) return;
    this.#shown = source;
    this.replaceChildren(icon(kind(type)));
    if (file && DRAWN.test(file.type) && file.size <= MOST_BYTES) void this.#draw(file, source);
    else if (!file && id && type.startsWith('image/')) this.#load(id, source);
  }

  /**
   * On a canvas: a picture that never leaves the page needs no address, which the page's policy would have to let in.
   * @param {File} file @param {string} source
   */
  async #draw(file, source) {
    /** @type {ImageBitmap | null} what is no picture, whatever it is called, keeps its sign */
    const picture = await createImageBitmap(file).catch(() => null);
    if (picture === null) return;
    if (source === this.#shown) {
      const canvas = h('canvas', { width: SIDE_PX, height: SIDE_PX, 'aria-hidden': 'true' });
      const side = Math.min(picture.width, picture.height);
      canvas.getContext('2d').drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, SIDE_PX, SIDE_PX);
      this.replaceChildren(canvas);
    }
    picture.close();
  }

  /** @param {string} id @param {string} source */
  #load(id, source) {
    const picture = h('img', {
      alt: '', draggable: 'false',
      onload: () => {
        if (source === this.#shown) this.replaceChildren(picture);
      },
    });
    picture.src = thumbnailPath(id);
  }
}

customElements.define('soma-thumb', SomaThumb);
