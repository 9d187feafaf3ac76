/**
 * The commands of the palette, as far as they make sense in the present state.
 * @module
 */
/** @import { State } from './types.js' */
import { text } from './strings.js';
import { runningTurn } from './turns.js';

/** @param {Readonly<State>} state @returns {import('./elements/soma-palette.js').Entry[]} */
export function commands({ conversation, theme, inspecting, person, config, connection }) {
  const stored = conversation.phase === 'ready' && !conversation.fresh;
  const signedOut = connection.kind === 'signed-out';
  const canSignOut = !signedOut && person?.provider_login === true;
  const nextTheme = theme === 'dark' ? 'light' : 'dark';
  /** @type {(import('./elements/soma-palette.js').Entry | false)[]} */
  const all = [
    { label: text.newChat, icon: 'plus', intent: 'new' },
    runningTurn(conversation.turns) !== null && { label: text.composer.stop, icon: 'stop', keys: 'Esc', intent: 'stop' },
    stored && { label: text.quick.summarize, icon: 'lines', intent: 'quick', detail: 'summarize' },
    stored && { label: text.quick.next_steps, icon: 'forward', intent: 'quick', detail: 'next_steps' },
    stored && { label: text.session.rename, icon: 'pencil', intent: 'renaming', detail: true },
    stored && { label: conversation.paused ? text.session.resume : text.session.pause, icon: conversation.paused ? 'play' : 'pause', intent: 'pause' },
    stored && { label: text.session.copyLink, icon: 'link', intent: 'copy-link' },
    stored && { label: text.session.copyMarkdown, icon: 'copy', intent: 'copy-markdown' },
    stored && { label: text.session.delete, icon: 'trash', intent: 'delete' },
    { label: inspecting ? text.inspector.hide : text.inspector.show, icon: 'inspect', keys: 'i', intent: 'inspect' },
    { label: text.actors.title, icon: 'tree', intent: 'overlay', detail: { name: 'actors' } },
    { label: text.settings.title, icon: 'settings', intent: 'overlay', detail: { name: 'settings' } },
    { label: `${text.settings.theme}: ${text.settings.themes[nextTheme]}`, icon: 'half', intent: 'theme', detail: nextTheme },
    signedOut && config?.sign_in?.enabled === true && { label: text.login.again, icon: 'person', intent: 'sign-in' },
    canSignOut && { label: text.login.out, icon: 'leave', intent: 'sign-out' },
    canSignOut && { label: text.login.outEverywhere, icon: 'leaveAll', intent: 'sign-out-everywhere' },
    { label: text.keys.title, icon: 'keys', keys: '?', intent: 'overlay', detail: { name: 'keys' } },
  ];
  return all.filter((entry) => entry !== false);
}
