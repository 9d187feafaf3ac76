/**
 * The conversation as a column of turns that follows the running answer while its reader is at the end.
 * @module
 */
/** @import { Conversation, Turn } from '../types.js' */
import { arrange, h } from '../dom.js';
import { icon } from '../icons.js';
import { text } from '../strings.js';
import { isOpen, runningTurn } from '../turns.js';
import { SomaElement } from './element.js';
import { SomaTurn } from './soma-turn.js';
import './soma-empty.js';

/** A reader this near to the end is at the end. */
const NEAR_PX = 48;

export class SomaTranscript extends SomaElement {
  /** @type {Map<string, SomaTurn>} */
  #turns = new Map();
  #conversation = '';
  #following = true;
  #lastTop = 0;
  #lastHeight = 0;
  #earlier = h('button', { type: 'button', class: 'quiet earlier', onclick: () => this.#showEarlier() }, text.transcript.earlier);
  #list = h('div', { class: 'turns' });
  #column = h('div', { class: 'column' }, this.#earlier, this.#list);
  #empty = h('soma-empty');
  #loading = h('p', { class: 'loading', text: text.transcript.loading });
  #scroller = h('div', {
    class: 'scroller', tabindex: 0, role: 'log', 'aria-live': 'off', 'aria-label': text.transcript.label,
    onscroll: () => this.#onScroll(), onclick: (/** @type {MouseEvent} */ event) => this.#onClick(event),
  });
  #chip = h('button', { type: 'button', class: 'chip', 'aria-label': text.transcript.newBelowLabel, hidden: true, onclick: () => this.#toEnd() },
    icon('down'), h('span', { text: text.transcript.newBelow }));

  build() {
    this.append(this.#scroller, this.#chip);
    // Also sees what no event tells: fonts, images, a rendered turn that is taller than was guessed.
    const sizes = new ResizeObserver(() => this.#keepEnd());
    sizes.observe(this.#column);
    sizes.observe(this.#scroller);
  }

  connected() {
    this.watch(({ conversation }) => conversation, (conversation) => this.#show(conversation));
  }

  /** @param {Conversation} conversation */
  #show(conversation) {
    const { id, phase, turns, earlier } = conversation;
    const changed = id !== this.#conversation;
    if (changed) {
      this.#conversation = id;
      this.#turns.clear();
      this.#following = true;
    }
    this.#earlier.hidden = !earlier;
    const running = runningTurn(turns);
    const rows = turns.map((turn, index) => this.#row(turn, placeOf(turn, running), index === turns.length - 1));
    for (const key of [...this.#turns.keys()]) if (!turns.some((turn) => turn.key === key)) this.#turns.delete(key);
    const { scrollTop, scrollHeight } = this.#scroller;
    const first = this.#list.firstChild;
    arrange(this.#list, rows);
    arrange(this.#scroller, [this.#content(phase, turns.length)]);
    // Older turns came in above: what is being read stays where it is.
    if (!changed && first && rows[0] !== first) this.#scroller.scrollTop = scrollTop + this.#scroller.scrollHeight - scrollHeight;
    if (changed || turns.at(-1)?.said?.delivery === 'sending') this.#following = true;
    this.#keepEnd();
  }

  /** @param {Conversation['phase']} phase @param {number} count */
  #content(phase, count) {
    if (phase === 'loading') return count > 0 ? this.#column : this.#loading;
    return phase === 'ready' && count > 0 ? this.#column : this.#empty;
  }

  /** @param {Turn} turn @param {ReturnType<typeof placeOf>} place @param {boolean} isLast */
  #row(turn, place, isLast) {
    const row = this.#turns.get(turn.key) ?? new SomaTurn();
    this.#turns.set(turn.key, row);
    row.show(turn, place, isLast);
    return row;
  }

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (scrollHeight - scrollTop - clientHeight <= NEAR_PX) this.#following = true;
    // Only a person moves up while the text does not shrink.
    else if (scrollTop < this.#lastTop - 1 && scrollHeight >= this.#lastHeight) this.#following = false;
    this.#remember();
  }

  #keepEnd() {
    if (this.#following) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#remember();
  }

  #remember() {
    this.#lastTop = this.#scroller.scrollTop;
    this.#lastHeight = this.#scroller.scrollHeight;
    this.#chip.hidden = this.#following;
  }

  #toEnd() {
    this.#following = true;
    this.#keepEnd();
    this.#scroller.focus({ preventScroll: true });
  }

  #showEarlier() {
    this.#following = false;
    this.ask('earlier');
  }

  /** @param {MouseEvent} event */
  #onClick(event) {
    const button = event.target instanceof Element ? event.target.closest('[data-copy-code]') : null;
    const code = button?.closest('.code-block')?.querySelector('pre')?.textContent;
    if (code !== undefined && code !== null) this.ask('copy', code.replace(/\n$/, ''));
  }
}

/**
 * Whether a turn is being answered, waits behind the one that is, or neither.
 * @param {Turn} turn @param {Turn | null} running
 */
function placeOf(turn, running) {
  if (running === null || !isOpen(turn)) return 'still';
  return turn.key === running.key ? 'running' : 'queued';
}

customElements.define('soma-transcript', SomaTranscript);
