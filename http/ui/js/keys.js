/**
 * Keys that work anywhere on the page. Those of one control live with the control.
 * @module
 */
import { current } from './store.js';
import { runningTurn } from './turns.js';

/** Whether the person's device has a Command key. */
export const hasCommandKey = /Mac|iPhone|iPad/.test(navigator.platform);

/** @type {HTMLElement} the application, which carries out what keys ask for */
let app;

/** @param {string} name @param {unknown} [detail] */
const ask = (name, detail) => app.dispatchEvent(new CustomEvent('soma', { detail: { name, detail } }));

/** @param {EventTarget | null} target */
function isTyping(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

/** @type {Record<string, () => void>} */
const PLAIN = {
  '/': () => document.querySelector('textarea')?.focus(),
  '[': () => ask('step', -1),
  ']': () => ask('step', 1),
  'i': () => ask('inspect'),
  '?': () => ask('overlay', { name: 'keys' }),
};

/**
 * Whether a key stands for itself. AltGr, which Windows reports as Ctrl with Alt, and Option are how many layouts write
 * brackets: they count when they made a sign, not beside a letter or a named key.
 * @param {KeyboardEvent} event
 */
const isPlain = ({ key, metaKey, ctrlKey, altKey }) => !metaKey && (altKey ? !/^\w/.test(key) : !ctrlKey);

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.defaultPrevented || event.isComposing) return;
  if (event.key.toLowerCase() === 'k' && (event.metaKey || event.ctrlKey) && !event.altKey && !event.shiftKey) {
    event.preventDefault();
    ask('overlay', current().overlay === null ? { name: 'palette' } : null);
    return;
  }
  if (current().overlay !== null || !isPlain(event)) return;
  if (event.key === 'Escape') onEscape(event);
  else if (!isTyping(event.target) && PLAIN[event.key]) {
    event.preventDefault();
    PLAIN[event.key]();
  }
}

/** @param {KeyboardEvent} event */
function onEscape(event) {
  if (document.querySelector('[popover]:popover-open')) return;
  if (current().listOpen) ask('list', false);
  else if (runningTurn(current().conversation.turns)) ask('stop');
  else return;
  event.preventDefault();
}

/** Starts listening. @param {HTMLElement} application */
export function listen(application) {
  app = application;
  document.addEventListener('keydown', onKey);
}
