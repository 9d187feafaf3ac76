/**
 * Making elements without HTML text. Text always goes in as text.
 * @module
 */

/** @typedef {Node | string | number | false | null | undefined} Child */

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [props] `class`, `on…` listeners, properties the element has, else attributes;
 *   `null`, `undefined` and `false` leave a property out
 * @param {...(Child | Child[])} children
 * @returns {any} the element; its precise type is the caller's to name
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) setProp(element, name, value);
  element.append(...children.flat().filter(isShown).map((child) => (typeof child === 'number' ? String(child) : child)));
  return element;
}

/** @param {Child} child @returns {child is Node | string | number} */
function isShown(child) {
  return child !== null && child !== undefined && child !== false;
}

/** @param {HTMLElement} element @param {string} name @param {unknown} value */
function setProp(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === 'class') element.className = String(value);
  else if (name.startsWith('on') && typeof value === 'function') {
    element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
  } else if (name === 'text') element.textContent = String(value);
  else if (value === true) element.setAttribute(name, '');
  else if (name in element && !name.includes('-') && typeof value === 'object') Object.assign(element, { [name]: value });
  else element.setAttribute(name, String(value));
}

/**
 * Makes the children of `parent` be `wanted`, moving as little as possible, so that
 * focus, selection and scroll positions of kept elements live on.
 * @param {Element} parent @param {Node[]} wanted
 */
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.childNodes]) if (!keep.has(child)) child.remove();
  wanted.forEach((node, index) => {
    const there = parent.childNodes[index] ?? null;
    if (there !== node) parent.insertBefore(node, there);
  });
}
