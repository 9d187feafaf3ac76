/**
 * Every text of the API reference.
 * @module
 */

export const text = {
  title: 'API reference',
  back: 'SomaAgent01',
  contents: 'Operations',
  filter: 'Filter operations',
  failed: 'The description could not be loaded.',
  action: 'Action',
  parameters: 'Parameters',
  body: 'Request body',
  responses: 'Responses',
  required: 'required',
  fields: 'Fields',
  any: 'any',
  where: { path: 'in the path', query: 'in the query', header: 'header', cookie: 'cookie' },
  atMost: (/** @type {number} */ length) => `at most ${length} characters`,
  byDefault: (/** @type {string} */ value) => `default ${value}`,
  asAbove: (/** @type {string} */ name) => `${name}, as above`,
};
