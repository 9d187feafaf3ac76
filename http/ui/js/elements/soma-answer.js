/**
 * One answer: its text as the server renders it, and quietly beneath it how it came about.
 * @module
 */
/** @import { Answer, Turn } from '../types.js' */
import { arrange, h } from '../dom.js';
import { showHtml } from '../html.js';
import { icon } from '../icons.js';
import { text } from '../strings.js';
import { count, span } from '../time.js';
import { SomaElement } from './element.js';
import './soma-time.js';

export class SomaAnswer extends SomaElement {
  /** @type {string | null} */
  #shown = null;
  #time = h('soma-time');
  #reasoningText = h('div', { class: 'reasoning-text' });
  #reasoning = h('details', { class: 'reasoning' }, h('summary', { text: text.transcript.reasoning }), this.#reasoningText);
  #thinking = h('p', { class: 'thinking', text: text.transcript.thinking });
  #text = h('div', { class: 'md' });
  #foot = h('div', { class: 'answer-foot' });
  #body = h('div', { class: 'body' });

  build() {
    this.classList.add('entry');
    this.append(h('div', { class: 'who' }, h('h2', { text: text.agent }), this.#time), this.#body);
  }

  /** @param {Turn} turn @param {boolean} isLast */
  show(turn, isLast) {
    const { answer } = turn;
    const phase = answer?.phase ?? 'waiting';
    this.dataset.phase = phase;
    this.#time.at = answer?.at ?? null;
    if (answer?.reasoning) this.#reasoningText.textContent = answer.reasoning;
    arrange(this.#body, [
      ...(answer?.reasoning ? [this.#reasoning] : []),
      ...(phase === 'waiting' || phase === 'thinking' ? [this.#thinking] : []),
      ...(answer && phase === 'error' ? [this.#error(turn, answer, isLast)] : []),
      ...(answer && phase !== 'error' && phase !== 'thinking' ? [this.#text] : []),
      ...(answer?.seq && phase !== 'error' ? [this.#foot] : []),
    ]);
    if (answer && phase !== 'error') this.#showText(answer);
    if (answer?.seq) this.#showFoot(answer);
  }

  /** @param {Answer} answer */
  #showText(answer) {
    const source = answer.html ?? answer.text;
    if (source === this.#shown) return;
    this.#shown = source;
    if (answer.html !== null) showHtml(this.#text, answer.html);
    else this.#text.replaceChildren(h('p', { class: 'plain', text: answer.text || (answer.phase === 'final' ? text.transcript.noText : '') }));
  }

  /** @param {Turn} turn @param {Answer} answer @param {boolean} isLast */
  #error(turn, answer, isLast) {
    const code = answer.metadata.error_code ?? '';
    const known = text.failure[/** @type {keyof typeof text.failure} */ (code)];
    return h('div', { class: 'failure', role: isLast ? 'alert' : null },
      icon('alert'),
      h('div', {},
        h('p', { text: known ?? (answer.text || text.failure.other) }),
        known && answer.text && answer.text !== known && h('p', { class: 'failure-detail', text: answer.text }),
        answer.metadata.partial && h('details', { class: 'reasoning' }, h('summary', { text: text.transcript.partial }), h('div', { class: 'reasoning-text', text: answer.metadata.partial })),
        h('p', { class: 'failure-actions' },
          turn.said && h('button', { type: 'button', class: 'small', onclick: () => this.ask('send', { text: turn.said?.text, attachments: turn.said?.attachments }) }, icon('retry'), text.retry),
          code && h('code', { text: code }))));
  }

  /** @param {Answer} answer */
  #showFoot({ phase, attempt, metadata, text: source }) {
    const { usage, timing, model, finish_reason: reason } = metadata;
    const facts = [
      reason !== undefined && (reason === 'length' ? text.transcript.cutByLength : text.transcript.cutByFilter),
      attempt > 1 && text.transcript.attempt(attempt),
      model,
      typeof timing?.first_delta_ms === 'number' && span(timing.first_delta_ms),
      usage?.output_tokens !== undefined && `${count(usage.input_tokens ?? 0)} → ${count(usage.output_tokens)}`,
    ].filter((fact) => typeof fact === 'string');
    this.#foot.replaceChildren(
      ...(phase === 'stopped' ? [h('span', { class: 'stopped' }, icon('stop'), text.transcript.stopped)] : []),
      ...(source ? [h('button', {
        type: 'button', class: 'icon-button', 'aria-label': text.transcript.copyAnswer, title: text.transcript.copyAnswer,
        onclick: () => this.ask('copy', source),
      }, icon('copy'))] : []),
      h('span', { class: 'facts', text: facts.join(' · ') }));
  }
}

customElements.define('soma-answer', SomaAnswer);
