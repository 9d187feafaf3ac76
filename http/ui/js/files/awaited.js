/**
 * Messages that wait for their files, wherever their writer is meanwhile.
 * @module
 */
import { current, update, watch } from '../store.js';
import { text } from '../strings.js';
import { isRefused, isUnderWay, ofSession } from './uploads.js';

/** Whether the message of a session waits. @param {string} session */
export const isAwaited = (session) => current().awaited.some((one) => one.session === session);

/** Has a message go once its files are there. @param {string} session @param {string} message */
export function wait(session, message) {
  update({ awaited: [...others(session), { session, text: message }] });
}

/** A message that waits does not go by itself any more. @param {string} session */
export function keepBack(session) {
  if (isAwaited(session)) update({ awaited: others(session) });
}

/** @param {string} session */
const others = (session) => current().awaited.filter((one) => one.session !== session);

/**
 * Sends what waited for its files, unless one of them cannot go.
 * @param {(session: string, message: string) => void} send @param {(line: string) => void} say  for what is not seen where it happens
 */
export function watchAwaited(send, say) {
  const sendReady = () => {
    for (const { session, text: message } of current().awaited) {
      const files = ofSession(current().uploads, session);
      const isBlocked = files.some(isRefused);
      if (files.some(isUnderWay) || (!isBlocked && !takes(session))) continue;
      keepBack(session);
      if (!isBlocked) send(session, message);
      else if (current().conversation.id === session) update({ announced: { line: text.files.blocked } });
      else say(text.files.blockedElsewhere);
    }
  };
  watch(({ uploads }) => uploads, sendReady);
  watch(({ conversation: { id, phase, paused } }) => `${id} ${phase} ${paused}`, sendReady);
}

/** Whether a message can go to a session just now, as far as this page knows. @param {string} session */
function takes(session) {
  const { conversation: { id, phase, paused }, sessions } = current();
  if (id === session) return !paused && (phase === 'ready' || phase === 'loading');
  return !sessions.items.some((item) => item.session_id === session && item.paused);
}
