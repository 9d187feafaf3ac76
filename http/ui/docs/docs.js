/**
 * The API reference: draws `/openapi.json` without any other source, under the page's own policy.
 * @module
 */
/** @import { Operation, Spec } from './spec.js' */
import { h } from '../js/dom.js';
import { icon } from '../js/icons.js';
import { text } from './strings.js';
import { schemaRows, typeName } from './schema.js';
import { groups, resolve } from './spec.js';

export class SomaDocs extends HTMLElement {
  async connectedCallback() {
    this.setAttribute('aria-busy', 'true');
    try {
      const response = await fetch('/openapi.json');
      if (!response.ok) throw new Error(String(response.status));
      this.#draw(await response.json());
    } catch (error) {
      this.replaceChildren(h('main', { class: 'reference' }, h('h1', { text: text.title }), h('p', { class: 'prose', role: 'alert', text: `${text.failed} ${error}` })));
    }
    this.setAttribute('aria-busy', 'false');
  }

  /** @param {Spec} spec */
  #draw(spec) {
    const tags = groups(spec);
    this.replaceChildren(
      contents(tags),
      h('main', { class: 'reference', tabindex: -1 },
        h('h1', {}, spec.info.title, h('span', { class: 'version', text: spec.info.version })),
        prose(spec.info.description),
        tags.flatMap(({ name, description, operations }) => [
          h('h2', { text: name }), prose(description), ...operations.map((operation) => section(spec, operation)),
        ])));
    // The address may name an operation that exists only now.
    if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
  }
}

/** @param {string | undefined} words */
const prose = (words) => (words ? h('p', { class: 'prose', text: words }) : null);

/** @param {string} method */
const badge = (method) => h('span', { class: 'method', 'data-method': method, text: method });

/** @param {ReturnType<typeof groups>} tags */
function contents(tags) {
  const lists = tags.map(({ name, operations }) => h('section', {}, h('h2', { text: name }), h('ul', {}, operations.map(({ id, method, path }) => h('li', {},
    h('a', { href: `#${id}` }, badge(method), path))))));
  const filter = h('input', {
    type: 'search', placeholder: text.filter, 'aria-label': text.filter, spellcheck: 'false',
    oninput: () => {
      const wanted = filter.value.trim().toLowerCase();
      for (const list of lists) {
        for (const row of list.querySelectorAll('li')) row.hidden = !row.textContent?.toLowerCase().includes(wanted);
        list.hidden = list.querySelector('li:not([hidden])') === null;
      }
    },
  });
  return h('nav', { class: 'contents', 'aria-label': text.contents }, h('a', { class: 'brand', href: '/' }, icon('mark'), text.back), filter, lists);
}

/** @param {Spec} spec @param {Operation} operation */
function section(spec, { id, method, path, detail }) {
  /** @type {any[]} */
  const parameters = (detail.parameters ?? []).map((/** @type {any} */ one) => resolve(spec, one));
  return h('section', { class: 'operation', id, 'aria-labelledby': `${id}-title` },
    h('h3', { id: `${id}-title` }, badge(method), path),
    detail.summary && h('p', { class: 'summary', text: detail.summary }),
    prose(detail.description),
    detail['x-action'] && h('p', { class: 'action' }, `${text.action} `, h('code', { text: detail['x-action'] })),
    parameters.length > 0 && [h('h4', { text: text.parameters }), h('div', { class: 'fields' }, parameters.map((one) => parameterRow(spec, one)))],
    detail.requestBody && [h('h4', { text: text.body }), ...content(spec, resolve(spec, detail.requestBody).content, true)],
    h('h4', { text: text.responses }),
    Object.entries(detail.responses ?? {}).map(([status, response]) => responseRow(spec, status, resolve(spec, response))));
}

/** @param {Spec} spec @param {any} parameter */
function parameterRow(spec, parameter) {
  return h('div', { class: 'field-row' },
    h('div', { class: 'field-name' }, h('code', { text: parameter.name }), parameter.required && h('span', { class: 'required', text: text.required }),
      h('span', { class: 'where', text: text.where[/** @type {keyof typeof text.where} */ (parameter.in)] ?? parameter.in })),
    h('div', {}, h('span', { class: 'type', text: typeName(spec, parameter.schema) }), prose(parameter.description)));
}

/** @param {Spec} spec @param {string} status @param {any} response */
function responseRow(spec, status, response) {
  return h('div', { class: 'response' }, h('span', { class: 'status', text: status }), h('div', {}, response.description, ...content(spec, response.content)));
}

/** @param {Spec} spec @param {Record<string, {schema?: any}> | undefined} types @param {boolean} [open] */
function content(spec, types, open = false) {
  return Object.entries(types ?? {}).map(([type, { schema }]) => h('details', { open },
    h('summary', {}, `${type} · ${typeName(spec, schema)}`), h('div', { class: 'nested' }, schemaRows(spec, schema))));
}

customElements.define('soma-docs', SomaDocs);
