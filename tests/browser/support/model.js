/**
 * A model that says what a test wants, when the test wants it, over the chat-completions protocol.
 * @module
 */
import { once } from 'node:events';
import { createServer } from 'node:http';

/**
 * A step of an answer: a piece of text, a wait, or a refusal with a status.
 * @typedef {string | Promise<unknown> | {status: number}} Step
 */

/** A wait that the test ends. */
export function gate() {
  /** @type {() => void} */
  let open = () => {};
  const opened = new Promise((resolve) => {
    open = () => resolve(undefined);
  });
  return { opened, open };
}

export class Model {
  /** @type {Map<string, Step[][]>} */
  #scripts = new Map();
  #server = createServer((request, response) => void this.#answer(request, response));
  /** Questions whose connection the client closed before the answer was complete. @type {string[]} */
  cut = [];

  static async start() {
    const model = new Model();
    // A connection that is closed just when it is used again would look like a broken model.
    model.#server.keepAliveTimeout = 0;
    model.#server.listen(0, '127.0.0.1');
    await once(model.#server, 'listening');
    return model;
  }

  /** What the binary is given to find this model. */
  get env() {
    const { port } = /** @type {import('node:net').AddressInfo} */ (this.#server.address());
    return { SA01_LLM_BASE_URL: `http://127.0.0.1:${port}/v1`, SA01_LLM_API_KEY: 'not-a-secret', SA01_LLM_MODEL: 'scripted' };
  }

  /**
   * @param {string} question  a part of the message that is unlike every other message of the test
   * @param {...Step[]} attempts  what to do at the first, second … request; the last one stays
   */
  script(question, ...attempts) {
    this.#scripts.set(question, attempts);
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response */
  async #answer(request, response) {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    const { messages = [] } = JSON.parse(body || '{}');
    const asked = String(messages.findLast((/** @type {any} */ message) => message.role === 'user')?.content ?? '');
    const [question, steps] = this.#stepsFor(asked);
    response.on('close', () => {
      if (!response.writableFinished) this.cut.push(question);
    });
    for (const step of steps) {
      if (response.destroyed) return;
      if (typeof step === 'string') this.#piece(response, step);
      else if (step instanceof Promise) await step;
      else {
        response.writeHead(step.status, { 'content-type': 'application/json' }).end('{"error":{"message":"scripted"}}');
        return;
      }
    }
    this.#write(response, { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] });
    this.#write(response, { choices: [], usage: { prompt_tokens: 12, completion_tokens: 34, total_tokens: 46 } });
    response.end('data: [DONE]\n\n');
  }

  /** @param {string} asked @returns {[string, Step[]]} */
  #stepsFor(asked) {
    for (const [question, attempts] of this.#scripts) {
      if (!asked.includes(question)) continue;
      const steps = attempts.length > 1 ? attempts.shift() : attempts[0];
      return [question, steps ?? []];
    }
    return [asked, [`You said: ${asked}`]];
  }

  /** @param {import('node:http').ServerResponse} response @param {string} content */
  #piece(response, content) {
    this.#write(response, { choices: [{ index: 0, delta: { content }, finish_reason: null }] });
  }

  /** @param {import('node:http').ServerResponse} response @param {object} chunk */
  #write(response, chunk) {
    if (!response.headersSent) response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(`data: ${JSON.stringify({ id: 'scripted', object: 'chat.completion.chunk', created: 0, model: 'scripted', ...chunk })}\n\n`);
  }
}
