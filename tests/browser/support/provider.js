/**
 * An OpenID provider on this machine, with people who sign in at a form by saying who they are.
 * @module
 */
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Provider as Oidc, interactionPolicy } from 'oidc-provider';

const CLIENT_ID = 'soma';
const LASTS_SECONDS = 600;

/** @typedef {{name: string, email: string, email_verified?: boolean, tenant?: string}} Somebody */

/** By what they are called at the form, which is also their subject. @type {Record<string, Somebody>} */
const PEOPLE = {
  ann: { name: 'Ann Tea', email: 'ann@tea.example', email_verified: true, tenant: 'tea' },
  // Without a claim of that name the tenant is the domain of the proved address.
  bob: { name: 'Bob Train', email: 'bob@train.example', email_verified: true },
  eve: { name: 'Eve Unproved', email: 'eve@tea.example', email_verified: false },
};

export class Provider {
  #server = createServer((request, response) => void this.#answer(request, response));
  #secret = randomUUID();
  /** @type {Oidc} */
  #oidc = /** @type {any} */ (null);
  /** Every token that it has given. @type {string[]} */
  issued = [];
  /** Where it is, which is not the host of the page: people cross from site to site, as they do in the world. */
  issuer = '';

  /**
   * Starts it for one client.
   * @param {string} client  the client's address
   */
  static async start(client) {
    const provider = new Provider();
    provider.#server.listen(0, 'localhost');
    await once(provider.#server, 'listening');
    const { port } = /** @type {import('node:net').AddressInfo} */ (provider.#server.address());
    provider.issuer = `http://localhost:${port}`;
    provider.#oidc = new Oidc(provider.issuer, provider.#configuration(client));
    provider.#oidc.on('grant.success', ({ body }) => {
      const { access_token: access, id_token: id } = /** @type {Record<string, string>} */ (body);
      provider.issued.push(access, id);
    });
    return provider;
  }

  /** What the binary is given to let people sign in here. */
  get env() {
    return { OIDC_ENABLED: 'true', OIDC_ISSUER: this.issuer, OIDC_CLIENT_ID: CLIENT_ID, OIDC_CLIENT_SECRET: this.#secret };
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** @param {string} client @returns {import('oidc-provider').Configuration} */
  #configuration(client) {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    return {
      clients: [{ client_id: CLIENT_ID, client_secret: this.#secret, redirect_uris: [`${client}/v1/auth/callback`], grant_types: ['authorization_code'], response_types: ['code'] }],
      pkce: { required: () => true },
      claims: { openid: ['sub', 'tenant'], email: ['email', 'email_verified'], profile: ['name'] },
      // What is known of somebody is in the ID token, as it is at the providers that people use.
      conformIdTokenClaims: false,
      findAccount: (_, subject) => ({ accountId: subject, claims: () => ({ sub: subject, ...PEOPLE[subject] }) }),
      loadExistingGrant: async ({ oidc }) => {
        const grant = new this.#oidc.Grant({ clientId: CLIENT_ID, accountId: oidc.session?.accountId });
        grant.addOIDCScope('openid email profile');
        await grant.save();
        return grant;
      },
      interactions: { policy: asked(), url: (_, { uid }) => `/form/${uid}` },
      features: { devInteractions: { enabled: false } },
      cookies: { keys: [randomUUID()] },
      jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: randomUUID() }] },
      ttl: { AccessToken: LASTS_SECONDS, AuthorizationCode: LASTS_SECONDS, Grant: LASTS_SECONDS, IdToken: LASTS_SECONDS, Interaction: LASTS_SECONDS, Session: LASTS_SECONDS },
    };
  }

  /** @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response */
  async #answer(request, response) {
    if (!request.url?.startsWith('/form/')) return this.#oidc.callback()(request, response);
    if (request.method === 'GET') {
      response.writeHead(200, { 'content-type': 'text/html' }).end(FORM);
      return;
    }
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    const who = new URLSearchParams(body).get('who');
    const outcome = who !== null && Object.hasOwn(PEOPLE, who) ? { login: { accountId: who }, select_account: {} } : { error: 'access_denied' };
    await this.#oidc.interactionFinished(request, response, outcome, { mergeWithLastSubmission: false });
  }
}

/** What people are asked at the form: who they are, if that is not known or a client wants to know it again. */
function asked() {
  const policy = interactionPolicy.base();
  policy.add(new interactionPolicy.Prompt({ name: 'select_account', requestable: true }), 0);
  return policy;
}

const FORM = `<!doctype html><html lang="en"><title>Provider</title><form method="post"><label>Who are you? <input name="who"></label><button>Continue</button></form>
<form method="post"><button>Cancel</button></form></html>`;

/**
 * Opens the page and signs in on the way to it.
 * @param {import('playwright-core').Page} page @param {string} url @param {keyof typeof PEOPLE} who
 */
export async function signIn(page, url, who) {
  await page.goto(url);
  await page.getByRole('link', { name: 'Sign in with' }).click();
  await sayWho(page, who);
  await page.waitForURL(url);
}

/**
 * Says who somebody is, once their browser has come here.
 * @param {import('playwright-core').Page} page @param {keyof typeof PEOPLE} who
 */
export async function sayWho(page, who) {
  await page.getByRole('textbox', { name: 'Who are you?' }).fill(String(who));
  await page.getByRole('button', { name: 'Continue' }).click();
}

/** Does not say it. @param {import('playwright-core').Page} page */
export async function cancel(page) {
  await page.getByRole('button', { name: 'Cancel' }).click();
}
