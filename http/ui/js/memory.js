/**
 * How the memory service is, as the server sees it: the page says so before an answer has to go without it.
 * @module
 */
import * as api from './api.js';
import { update } from './store.js';

const EVERY_MS = 15_000;

/** Asks now and from then on while the page is seen. */
export function watchMemory() {
  void look();
  const lookIfSeen = () => {
    if (!document.hidden) void look();
  };
  setInterval(lookIfSeen, EVERY_MS);
  document.addEventListener('visibilitychange', lookIfSeen);
}

async function look() {
  // A server that is not reached is told of by the connection.
  const health = await api.healthz().catch(() => null);
  update({ memory: health?.components.somabrain_http?.status ?? null });
}
