/**
 * What most suites need: a scripted model, the binary connected to it, and a browser.
 * @module
 */
import { after, before } from 'node:test';
import { launch } from './browser.js';
import { Model } from './model.js';
import { Server } from './server.js';

/**
 * Starts all three before the suite and stops them after it.
 * @param {Record<string, string>} [env]
 */
export function system(env = {}) {
  const parts = /** @type {{model: Model, server: Server, browser: import('playwright-core').Browser}} */ ({});
  before(async () => {
    parts.model = await Model.start();
    parts.server = await Server.start({ ...parts.model.env, ...env });
    parts.browser = await launch();
  });
  after(async () => {
    await parts.browser?.close();
    await parts.server?.stop();
    parts.model?.stop();
  });
  return parts;
}
