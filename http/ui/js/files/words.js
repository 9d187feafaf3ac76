/**
 * Names, sizes and types of files in words.
 * @module
 */
import { text } from '../strings.js';

/** What cannot be seen, or turns what stands around it around, so that a name could pass for another one. */
const UNSEEN = /[\p{Cc}\p{Cs}\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;
/** A name with more letters than this is cut in its middle where there is no room, so that its ending is seen. */
const WHOLE_LETTERS = 24;
const END_LETTERS = 10;
/** Most letters of a name that is said. */
const SAID_LETTERS = 80;

const tenths = new Intl.NumberFormat(text.locale, { maximumFractionDigits: 1 });

/** A name as it is shown. @param {string} name */
export const shown = (name) => name.replace(UNSEEN, '').trim() || text.files.nameless;

/** A name as it is said, when nobody can look at it. @param {string} name */
export function said(name) {
  const letters = [...shown(name)];
  return letters.length <= SAID_LETTERS ? letters.join('') : `${letters.slice(0, SAID_LETTERS / 2).join('')}…${letters.slice(-END_LETTERS).join('')}`;
}

/**
 * The part of a name that gives way where there is no room, and the one that does not.
 * @param {string} name @returns {[string, string]}
 */
export function parts(name) {
  const letters = [...shown(name)];
  const end = letters.length > WHOLE_LETTERS ? END_LETTERS : 0;
  return [letters.slice(0, letters.length - end).join(''), letters.slice(letters.length - end).join('')];
}

/** @param {number} bytes @returns {string} `812 bytes`, `1.4 MB`, in powers of 1024 */
export function size(bytes) {
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), text.files.units.length);
  if (power === 0) return text.files.bytes(bytes);
  const count = bytes / 1024 ** power;
  return `${tenths.format(count < 10 ? count : Math.round(count))} ${text.files.units[power - 1]}`;
}

/** @typedef {'picture' | 'writing' | 'archive' | 'sound' | 'film' | 'file'} Kind */

/** What a file is, for its icon. @param {string} type @returns {Kind} */
export function kind(type) {
  if (type.startsWith('image/')) return 'picture';
  if (type.startsWith('audio/')) return 'sound';
  if (type.startsWith('video/')) return 'film';
  if (/\b(zip|gzip|x-tar|x-7z|x-bzip2|x-xz|zstd|rar)\b/.test(type) && !type.includes('+')) return 'archive';
  return type.startsWith('text/') || /\b(pdf|json|xml|msword|wordprocessing|opendocument|rtf)/.test(type) ? 'writing' : 'file';
}

/** What a file is, in a word. @param {string} type @param {string} name */
export function typeWord(type, name) {
  const known = text.files.types[/** @type {keyof typeof text.files.types} */ (type)];
  if (known) return known;
  const ending = /\.([A-Za-z0-9]{1,5})$/.exec(name)?.[1];
  const own = /^[a-z]+\/(?:x-)?([a-z0-9]{2,5})$/.exec(type)?.[1];
  return (own ?? ending)?.toUpperCase() ?? text.files.file;
}

/**
 * The name in a header (RFC 6266); one in Unicode comes first.
 * @param {string} disposition
 */
export function nameIn(disposition) {
  const extended = /(?:^|;)\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]*)/i.exec(disposition)?.[1];
  if (extended !== undefined) {
    try {
      return decodeURIComponent(extended);
    } catch {
      // Not encoded as it should be: the plain one is there for that.
    }
  }
  const [, quoted, bare] = /(?:^|;)\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))/i.exec(disposition) ?? [];
  return quoted?.replace(/\\(.)/g, '$1') ?? bare ?? '';
}
