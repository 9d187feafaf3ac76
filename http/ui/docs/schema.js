/**
 * Drawing a JSON Schema as rows of fields.
 * @module
 */
/** @import { Spec } from './spec.js' */
import { h } from '../js/dom.js';
import { text } from './strings.js';
import { refName, resolve } from './spec.js';

/**
 * A schema's type in one line: `string · uuid`, `array of Session`, `PostMessage`.
 * @param {Spec} spec @param {any} schema
 * @returns {string}
 */
export function typeName(spec, schema) {
  if (!schema) return text.any;
  const name = refName(schema);
  if (name) return name;
  const choice = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (choice) return choice.map((/** @type {any} */ one) => typeName(spec, one)).join(schema.allOf ? ' & ' : ' | ');
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const types = [schema.type ?? (schema.properties ? 'object' : text.any)].flat();
  const base = types.map((type) => (type === 'array' ? `array of ${typeName(spec, schema.items)}` : type)).join(' | ');
  return [base, schema.format, ...limits(schema)].filter(Boolean).join(' · ');
}

/** @param {any} schema */
function limits(schema) {
  return [
    schema.minimum !== undefined && `≥ ${schema.minimum}`,
    schema.maximum !== undefined && `≤ ${schema.maximum}`,
    schema.maxLength !== undefined && text.atMost(schema.maxLength),
    schema.default !== undefined && schema.default !== null && text.byDefault(JSON.stringify(schema.default)),
    schema.enum && schema.enum.map((/** @type {unknown} */ value) => JSON.stringify(value)).join(' '),
  ];
}

/**
 * The rows of an object, of the objects in an array, or of each alternative.
 * @param {Spec} spec @param {any} schema
 * @param {string[]} above  names already being drawn, because a schema may contain itself
 * @returns {HTMLElement[]}
 */
export function schemaRows(spec, schema, above = []) {
  const name = refName(schema);
  if (name && above.includes(name)) return [h('p', { class: 'type', text: text.asAbove(name) })];
  const path = name ? [...above, name] : above;
  const actual = resolve(spec, schema);
  const choice = actual.oneOf ?? actual.anyOf ?? actual.allOf;
  if (choice) return choice.flatMap((/** @type {any} */ one) => schemaRows(spec, one, path));
  if (actual.type === 'array') return schemaRows(spec, actual.items, path);
  const required = new Set(actual.required ?? []);
  const rows = Object.entries(actual.properties ?? {}).map(([field, value]) => fieldRow(spec, field, value, required.has(field), path));
  return rows.length > 0 || above.length > 0 ? rows : [h('p', { class: 'type', text: typeName(spec, actual) })];
}

/** @param {Spec} spec @param {string} field @param {any} schema @param {boolean} required @param {string[]} path */
function fieldRow(spec, field, schema, required, path) {
  const inner = hasFields(spec, schema) ? schemaRows(spec, schema, path) : [];
  const words = schema.description ?? resolve(spec, schema).description;
  return h('div', { class: 'field-row' },
    h('div', { class: 'field-name' }, h('code', { text: field }), required && h('span', { class: 'required', text: text.required })),
    h('div', {}, h('span', { class: 'type', text: typeName(spec, schema) }), words && h('p', { class: 'prose', text: words })),
    inner.length > 0 && h('details', {}, h('summary', { text: text.fields }), h('div', { class: 'nested' }, inner)));
}

/** @param {Spec} spec @param {any} schema @returns {boolean} */
function hasFields(spec, schema, depth = 0) {
  if (depth > 4) return false;
  const actual = resolve(spec, schema);
  const within = actual.oneOf ?? actual.anyOf ?? actual.allOf ?? (actual.items ? [actual.items] : []);
  return Boolean(actual.properties) || within.some((/** @type {any} */ one) => hasFields(spec, one, depth + 1));
}
