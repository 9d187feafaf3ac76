/**
 * What most suites need: a scripted model, the binary connected to it, and a browser.
 * @module
 */
import { randomUUID } from 'node:crypto';
import { after, before } from 'node:test';
import { launch } from './browser.js';
import { Model } from './model.js';
import { Provider } from './provider.js';
import { freePort, Server } from './server.js';

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

/**
 * The binary for people who sign in at a provider.
 * @param {Record<string, string>} [env]
 */
export async function startWithProvider(env = {}) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const [model, provider] = await Promise.all([Model.start(), Provider.start(url)]);
  const stopBoth = () => [model, provider].forEach((one) => one.stop());
  try {
    const server = await Server.start({
      ...model.env, ...provider.env,
      GATEWAY_PORT: String(port),
      GATEWAY_BASE_URL: url,
      GATEWAY_REQUIRE_AUTH: 'true',
      GATEWAY_JWT_SECRET: randomUUID() + randomUUID(),
      ...env,
    });
    return { model, provider, server, stop: () => server.stop().finally(stopBoth) };
  } catch (error) {
    stopBoth();
    throw error;
  }
}

/**
 * What {@link system} is, for people who sign in.
 * @param {Record<string, string>} [env]
 */
export function systemWithProvider(env = {}) {
  const parts = /** @type {Awaited<ReturnType<typeof startWithProvider>> & {browser: import('playwright-core').Browser}} */ ({});
  before(async () => {
    Object.assign(parts, await startWithProvider(env));
    parts.browser = await launch();
  });
  after(async () => {
    await parts.browser?.close();
    await parts.stop?.();
  });
  return parts;
}
