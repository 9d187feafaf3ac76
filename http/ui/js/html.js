/**
 * The only door for HTML: the server's sanitised rendering of Markdown becomes elements here,
 * through the page's one Trusted Types policy. Everything else on the page goes in as text.
 * @module
 */
import { h } from './dom.js';
import { icon } from './icons.js';
import { text } from './strings.js';

/** @type {{createHTML(html: string): any}} browsers without Trusted Types take the text itself */
const policy = /** @type {any} */ (window).trustedTypes?.createPolicy('somaagent-server-html', {
  createHTML: (/** @type {string} */ html) => html,
}) ?? { createHTML: (html) => html };

/**
 * Shows `html` in `target`. Blocks that are already there and unchanged are not touched, and a changed
 * block is changed from within, so that selection and scroll positions survive a streamed answer.
 * @param {Element} target
 * @param {string} html  sanitised by the server
 */
export function showHtml(target, html) {
  const template = document.createElement('template');
  template.innerHTML = policy.createHTML(html);
  decorate(template.content);
  matchChildren(target, template.content);
}

/** @param {DocumentFragment} content */
function decorate(content) {
  for (const link of content.querySelectorAll('a[href]')) {
    link.setAttribute('target', '_blank');
    link.setAttribute('rel', 'noopener noreferrer');
  }
  for (const box of content.querySelectorAll('input')) {
    box.setAttribute('aria-label', box.hasAttribute('checked') ? text.transcript.taskDone : text.transcript.taskOpen);
  }
  lowerHeadings(content);
  for (const pre of content.querySelectorAll('pre')) wrapCode(pre);
  for (const table of content.querySelectorAll('table')) {
    const scroller = h('div', { class: 'table-scroll', tabindex: 0, role: 'group', 'aria-label': text.transcript.table });
    table.replaceWith(scroller);
    scroller.append(table);
  }
}

/**
 * A message's headings stand below the page's own, and none skips a level: that is how people who hear the page
 * find their way. What they look like stays as written.
 * @param {DocumentFragment} content
 */
function lowerHeadings(content) {
  let above = 2;
  for (const heading of content.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
    const level = Number(heading.tagName[1]);
    above = Math.min(above + 1, level + 2, 6);
    const lowered = h(`h${above}`, { class: `md-h${level}` });
    lowered.append(...heading.childNodes);
    heading.replaceWith(lowered);
  }
}

/** @param {HTMLPreElement} pre */
function wrapCode(pre) {
  const language = /(?:^|\s)language-(\S+)/.exec(pre.querySelector('code')?.className ?? '')?.[1] ?? '';
  const block = h('div', { class: 'code-block' },
    h('div', { class: 'code-head' },
      h('span', { class: 'code-language', text: language || text.transcript.code }),
      h('button', { type: 'button', class: 'code-copy quiet', 'data-copy-code': true }, icon('copy'), h('span', { text: text.copy }))));
  pre.replaceWith(block);
  pre.tabIndex = 0;
  pre.setAttribute('role', 'group');
  pre.setAttribute('aria-label', language || text.transcript.code);
  block.append(pre);
}

/** @param {Node} there @param {Node} wanted */
function matchChildren(there, wanted) {
  const next = [...wanted.childNodes];
  next.forEach((node, index) => {
    const old = there.childNodes[index];
    if (!old) there.appendChild(node);
    else if (!old.isEqualNode(node)) matchNode(/** @type {ChildNode} */ (old), node);
  });
  while (there.childNodes.length > next.length) there.lastChild?.remove();
}

/** @param {ChildNode} there @param {ChildNode} wanted */
function matchNode(there, wanted) {
  if (there.nodeName !== wanted.nodeName) {
    there.replaceWith(wanted);
  } else if (there instanceof Element && wanted instanceof Element) {
    matchAttributes(there, wanted);
    matchChildren(there, wanted);
  } else {
    there.nodeValue = wanted.nodeValue;
  }
}

/** @param {Element} there @param {Element} wanted */
function matchAttributes(there, wanted) {
  for (const { name } of [...there.attributes]) if (!wanted.hasAttribute(name)) there.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (there.getAttribute(name) !== value) there.setAttribute(name, value);
}
