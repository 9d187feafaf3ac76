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
  watch(({ uploads }) => uploads, (uploads) => {
    for (const { session, text: message } of current().awaited) {
      const files = ofSession(uploads, session);
      if (files.some(isUnderWay)) continue;
      keepBack(session);
      const { id, paused, phase } = current().conversation;
      if (!files.some(isRefused)) {
        // Where nothing can be sent just now the text stays in the field.
        if (id !== session || (!paused && (phase === 'ready' || phase === 'loading'))) send(session, message);
      } else if (id === session) update({ announced: { line: text.files.blocked } });
      else say(text.files.blockedElsewhere);
    }
  });
}
