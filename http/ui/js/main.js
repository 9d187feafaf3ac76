/**
 * Starts the page: elements, configuration, the list, and what the address names.
 * @module
 */
import * as api from './api.js';
import { parkWhenHidden } from './conversation.js';
import { watchAwaited } from './files/awaited.js';
import { watchUploads } from './files/uploads.js';
import { intents, say, showPlace } from './intents.js';
import * as keys from './keys.js';
import { watchMemory } from './memory.js';
import { keepFresh } from './sessions.js';
import { followOthers, isOwned, meet } from './signing.js';
import { update } from './store.js';
import './elements/soma-app.js';

const app = document.querySelector('soma-app');
const known = getToKnow();
if (isOwned()) {
  // Nothing is opened either before it is known for whom.
  app?.toggleAttribute('inert', true);
  await known;
  app?.toggleAttribute('inert', false);
}
if (app instanceof HTMLElement) keys.listen(app);
addEventListener('popstate', showPlace);
showPlace();
keepFresh();
watchMemory();
parkWhenHidden();
followOthers();
watchUploads();
watchAwaited((session, message) => intents['send-draft']({ session, message }), say);

/** Learns what this server is, and who is here where people sign in. */
async function getToKnow() {
  // Without it the page lacks some notices and the way out, and shows nothing that is somebody's.
  const config = await api.insist(() => api.config());
  update({ config });
  if (config.sign_in?.enabled) await meet();
}
