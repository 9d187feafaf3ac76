/**
 * The page's icons: 20 px, one stroke, the colour of the text around them.
 * @module
 */

const SHAPES = {
  mark: 'M3.5 17 4.7 13.4A7 7 0 1 1 7.5 16.1 M11.7 9.6a1.1 1.1 0 1 1-2.2 0 1.1 1.1 0 0 1 2.2 0',
  plus: 'M10 4v12 M4 10h12',
  search: 'M9 15A6 6 0 1 0 9 3a6 6 0 0 0 0 12Z M13.3 13.3 17 17',
  menu: 'M3 6h14 M3 10h14 M3 14h9',
  more: 'M5 10h.01 M10 10h.01 M15 10h.01',
  send: 'M10 16V4.5 M5 9.5l5-5 5 5',
  stop: 'M6 6h8v8H6Z',
  lines: 'M4 5.5h12 M4 10h12 M4 14.5h7',
  forward: 'M4 10h12 M11 5l5 5-5 5',
  half: 'M10 3a7 7 0 1 0 0 14Z M10 3a7 7 0 0 1 0 14',
  copy: 'M7 7V4h9v9h-3 M4 7h9v9H4Z',
  check: 'M4 10.5 8 14.5 16 6',
  down: 'M10 4v11 M5 10.5l5 5 5-5',
  inspect: 'M3 4h14v12H3Z M12 4v12 M14.3 7.5h.4 M14.3 10h.4',
  settings: 'M4 6h6 M14 6h2 M4 14h2 M10 14h6 M12 4v4 M8 12v4',
  close: 'M5 5l10 10 M15 5 5 15',
  retry: 'M16 10a6 6 0 1 1-1.8-4.3 M16 3v3.5h-3.5',
  alert: 'M10 3.2 17.5 16.5h-15Z M10 8v4 M10 14.2h.01',
  tree: 'M10 3v4 M4.5 13v-3h11v3 M10 7v6 M3 13h3v3H3Z M8.5 13h3v3h-3Z M14 13h3v3h-3Z',
  pencil: 'M4 16l.8-3.4L13 4.4l2.6 2.6-8.2 8.2Z',
  trash: 'M4 6h12 M8 6V4h4v2 M6 6l.6 10h6.8L14 6',
  pause: 'M7 5v10 M13 5v10',
  play: 'M7 4.5v11l8-5.5Z',
  link: 'M8.5 11.5l3-3 M9 6.5 11 4.4a3.2 3.2 0 0 1 4.6 4.6L13.5 11 M11 13.5 9 15.6A3.2 3.2 0 0 1 4.4 11L6.5 9',
  person: 'M10 10a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4Z M3.8 16.6c.6-3 3-4.3 6.2-4.3s5.6 1.3 6.2 4.3',
  leave: 'M8 4H4v12h4 M8.5 10h8 M13 6.5l3.5 3.5-3.5 3.5',
  leaveAll: 'M7 5H4v10h3 M7.5 7.5h8 M12.5 4.5l3 3-3 3 M7.5 12.5h8 M12.5 9.5l3 3-3 3',
  clip: 'M14.8 9.4 9.6 14.6a3.1 3.1 0 0 1-4.4-4.4l6-6a2.1 2.1 0 0 1 3 3l-5.8 5.8a1 1 0 0 1-1.5-1.5l5-5',
  file: 'M5 3h6.5L15 6.5V17H5Z M11.5 3v3.5H15',
  writing: 'M5 3h6.5L15 6.5V17H5Z M11.5 3v3.5H15 M7.5 9.5h5 M7.5 12h5 M7.5 14.5h3',
  picture: 'M3.5 4h13v12h-13Z M3.5 13.5l3.6-3.6 3.4 3.4 2-2 4 4 M12.6 7.6h.01',
  archive: 'M5 3h10v14H5Z M10 3v1.5 M10 6.5V8 M10 10v4h.01',
  sound: 'M7.5 14.5V5l8-1.5V13 M7.5 14.5a2 2 0 1 1-4 0 2 2 0 0 1 4 0Z M15.5 13a2 2 0 1 1-4 0 2 2 0 0 1 4 0Z',
  film: 'M3.5 4.5h13v11h-13Z M8.5 7.5v5l4-2.5Z',
  download: 'M10 3.5v9 M6 8.8l4 4 4-4 M4 16.5h12',
  shield: 'M10 3l6 2v4.8c0 3.6-2.6 6-6 7.2-3.4-1.2-6-3.6-6-7.2V5Z M10 7v3.5 M10 13h.01',
  keys: 'M2.5 5.5h15v9h-15Z M5.5 8.5h.01 M8.5 8.5h.01 M11.5 8.5h.01 M14.5 8.5h.01 M6.5 11.7h7',
};

/** @typedef {keyof typeof SHAPES} IconName */

/**
 * @param {IconName} name
 * @returns {SVGSVGElement} hidden from assistive technology: the control around it has the name
 */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 20 20');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', SHAPES[name]);
  svg.append(path);
  return svg;
}
