/**
 * Starts the page: elements, configuration, the list, and what the address names.
 * @module
 */
import * as api from './api.js';
import { parkWhenHidden } from './conversation.js';
import { showPlace } from './intents.js';
import * as keys from './keys.js';
import { watchMemory } from './memory.js';
import { keepFresh } from './sessions.js';
import { update } from './store.js';
import './elements/soma-app.js';

const app = document.querySelector('soma-app');
if (app instanceof HTMLElement) keys.listen(app);
addEventListener('popstate', showPlace);
showPlace();
keepFresh();
watchMemory();
parkWhenHidden();
api.config().then((config) => update({ config }), () => {
  // Without it the page lacks two notices, nothing else.
});
