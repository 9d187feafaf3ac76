/**
 * Reading an OpenAPI description.
 * @module
 */

/** @typedef {{info: {title: string, version: string, description?: string}, tags?: {name: string, description?: string}[],
 *   paths: Record<string, Record<string, any>>, components?: any}} Spec */
/** @typedef {{name: string, description?: string, operations: Operation[]}} Group */
/** @typedef {{id: string, method: string, path: string, detail: any}} Operation */

const METHODS = ['get', 'post', 'put', 'patch', 'delete', 'head', 'options'];
const UNTAGGED = 'other';

/**
 * The operations by their first tag, in the order the description names the tags.
 * @param {Spec} spec
 * @returns {Group[]}
 */
export function groups(spec) {
  /** @type {Map<string, Group>} */
  const byTag = new Map();
  for (const { name, description } of spec.tags ?? []) byTag.set(name, emptyGroup(name, description));
  for (const [path, item] of Object.entries(spec.paths)) {
    for (const method of METHODS.filter((one) => item[one])) {
      const detail = { ...item[method], parameters: [...(item.parameters ?? []), ...(item[method].parameters ?? [])] };
      const name = detail.tags?.[0] ?? UNTAGGED;
      const group = byTag.get(name) ?? emptyGroup(name);
      byTag.set(name, group);
      group.operations.push({ id: `${method}-${path.replaceAll(/[^a-z0-9]+/gi, '-')}`, method, path, detail });
    }
  }
  return [...byTag.values()].filter(({ operations }) => operations.length > 0);
}

/** @param {string} name @param {string} [description] @returns {Group} */
const emptyGroup = (name, description) => ({ name, description, operations: [] });

/**
 * What a reference stands for; anything else stands for itself.
 * @param {Spec} spec @param {any} value
 * @returns {any}
 */
export function resolve(spec, value) {
  const ref = value?.$ref;
  if (typeof ref !== 'string' || !ref.startsWith('#/')) return value ?? {};
  const steps = ref.slice(2).split('/').map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  return resolve(spec, steps.reduce((/** @type {any} */ at, step) => at?.[step], spec));
}

/** @param {any} schema @returns {string | null} the name of what a reference points to */
export const refName = (schema) => schema?.$ref?.split('/').pop() ?? null;
