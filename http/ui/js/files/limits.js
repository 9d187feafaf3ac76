/**
 * Which files this server takes, so that nobody sends in vain. What is let through here the server judges itself.
 * @module
 */
/** @import { UiConfig } from '../types.js' */
import { text } from '../strings.js';
import { said, size } from './words.js';

/** Most attachments of a message. */
const MESSAGE_FILES = 32;

/** @typedef {{enabled: boolean, maxBytes: number, maxFiles: number, allowed: string[], denied: string[]}} Limits */

/** Without a configuration only the server knows. @param {UiConfig | null} config @returns {Limits} */
export function limits(config) {
  const told = config?.uploads;
  return {
    enabled: config?.uploads_enabled ?? true,
    maxBytes: told?.max_bytes ?? Infinity,
    maxFiles: Math.min(told?.max_files ?? Infinity, MESSAGE_FILES),
    allowed: told?.allowed_mime ?? [],
    denied: told?.denied_mime ?? [],
  };
}

/**
 * Parts files that may be sent from those that may not, and says of these why.
 * @param {readonly File[]} files @param {number} already  how many the message has @param {Limits} limits
 * @returns {{taken: File[], reasons: string[]}}
 */
export function admit(files, already, { enabled, ...limits }) {
  if (!enabled) return { taken: [], reasons: [text.files.off] };
  /** @type {File[]} */
  const taken = [];
  const reasons = [];
  let over = 0;
  for (const file of files) {
    const fault = faultOf(file, limits);
    if (fault !== null) reasons.push(text.files.notAdded(said(file.name), fault));
    else if (already + taken.length < limits.maxFiles) taken.push(file);
    else over += 1;
  }
  if (over > 0) reasons.push(text.files.tooMany(over, limits.maxFiles));
  return { taken, reasons };
}

/** @param {File} file @param {Omit<Limits, 'enabled'>} limits @returns {string | null} */
function faultOf(file, { maxBytes, allowed, denied }) {
  if (file.size === 0) return text.files.empty;
  if (file.size > maxBytes) return text.files.tooBig(size(maxBytes));
  const type = file.type.split(';', 1)[0].trim().toLowerCase();
  // What the browser does not know may still be of a type that is taken.
  if (type === '') return null;
  return denied.includes(type) || (allowed.length > 0 && !allowed.includes(type)) ? text.files.wrongType(type) : null;
}
