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
if (app instanceof HTMLElement) keys.listen(app);
addEventListener('popstate', showPlace);
const known = getToKnow();
if (isOwned()) await known;
showPlace();
keepFresh();
watchMemory();
parkWhenHidden();
followOthers();
watchUploads();
watchAwaited((session, message) => intents['send-draft']({ session, message }), say);

/** Learns what this server is, and who is here where people sign in. */
async function getToKnow() {
  // Without it the page lacks some notices and the way out, nothing else.
  const config = await api.config().catch(() => null);
  update({ config });
  if (config?.sign_in?.enabled) await meet();
}
