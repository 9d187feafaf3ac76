/**
 * Files for tests, and the ways in which people give them to the page.
 * @module
 */
import { deflateSync } from 'node:zlib';

/** @typedef {import('playwright-core').Page} Page */
/** @typedef {{name: string, mimeType: string, buffer: Buffer}} TestFile */

/** @param {string} name @param {string} content @returns {TestFile} */
export const note = (name, content = `What ${name} says.\n`) => ({ name, mimeType: 'text/plain', buffer: Buffer.from(content) });

/** A text of that many bytes. @param {string} name @param {number} bytes */
export const long = (name, bytes) => note(name, 'All work and no play. '.repeat(Math.ceil(bytes / 22)).slice(0, bytes));

/** The sum of a part of a PNG (ISO 3309). @param {Buffer} bytes */
function crc32(bytes) {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

/** @param {string} kind @param {Buffer} data */
function pngChunk(kind, data) {
  const body = Buffer.concat([Buffer.from(kind, 'latin1'), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

/** A picture that goes from one colour to another. @param {string} name @param {number} [side] @returns {TestFile} */
export function picture(name, side = 96) {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(side, 0);
  head.writeUInt32BE(side, 4);
  head.set([8, 2], 8);
  const rows = Buffer.alloc(side * (1 + 3 * side));
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) rows.set([255 * (x / side), 90, 255 * (y / side)], y * (1 + 3 * side) + 1 + 3 * x);
  }
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const chunks = [pngChunk('IHDR', head), pngChunk('IDAT', deflateSync(rows)), pngChunk('IEND', Buffer.alloc(0))];
  return { name, mimeType: 'image/png', buffer: Buffer.concat([signature, ...chunks]) };
}

/** A document of one page. @param {string} name @param {string} line @returns {TestFile} */
export function pdf(name, line = 'The night train leaves at 22:04.') {
  const drawn = `BT /F1 18 Tf 60 760 Td (${line}) Tj ET`;
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    '<< /Type /Pages /Kids [3 0 R] /Count 1 >>',
    '<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>',
    `<< /Length ${drawn.length} >>\nstream\n${drawn}\nendstream`,
    '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>',
  ];
  let text = '%PDF-1.4\n';
  const places = objects.map((object, index) => {
    const at = text.length;
    text += `${index + 1} 0 obj\n${object}\nendobj\n`;
    return `${String(at).padStart(10, '0')} 00000 n \n`;
  });
  const table = text.length;
  text += `xref\n0 6\n0000000000 65535 f \n${places.join('')}trailer << /Size 6 /Root 1 0 R >>\nstartxref\n${table}\n%%EOF\n`;
  return { name, mimeType: 'application/pdf', buffer: Buffer.from(text, 'latin1') };
}

/**
 * Chooses files in the dialog that something opens.
 * @param {Page} page @param {() => Promise<void>} open @param {string | TestFile[]} files  a path, or files that are nowhere
 */
export async function chooseIn(page, open, files) {
  const chooser = page.waitForEvent('filechooser');
  // The browser has to know that no person is there to see the dialog.
  await page.evaluate(() => {});
  await open();
  await (await chooser).setFiles(files);
}

/** Chooses files as a person does, from the button on. @param {Page} page @param {...TestFile} files */
export const choose = (page, ...files) => chooseIn(page, () => page.getByRole('button', { name: 'Add files' }).click(), files);

/**
 * Files as a script makes them, for what a test cannot do with those of a disk.
 * @param {Page} page @param {TestFile[]} files
 */
const transferred = (page, files) => page.evaluateHandle((made) => {
  const transfer = new DataTransfer();
  for (const { name, type, bytes } of made) transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
  return transfer;
}, files.map(({ name, mimeType, buffer }) => ({ name, type: mimeType, bytes: [...buffer] })));

/** @param {Page} page @param {string} selector @param {string} event @param {...TestFile} files */
export async function drag(page, selector, event, ...files) {
  await page.dispatchEvent(selector, event, { dataTransfer: await transferred(page, files) });
}

/** Pastes files into the message, beside a text if there is one. @param {Page} page @param {TestFile[]} files @param {Record<string, string>} [texts]  by their type */
export async function paste(page, files, texts = {}) {
  const clipboardData = await transferred(page, files);
  await clipboardData.evaluate((transfer, all) => {
    for (const [type, text] of Object.entries(all)) transfer.setData(type, text);
  }, texts);
  return page.evaluate((transfer) => {
    const event = new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true });
    return !document.querySelector('textarea')?.dispatchEvent(event);
  }, clipboardData);
}

/** The rows of files of the message that is being written. @param {Page} page */
export const rows = (page) => page.getByRole('list', { name: 'Files of your message' }).getByRole('listitem');

/** The row of a file. @param {Page} page @param {string} name */
export const row = (page, name) => rows(page).filter({ hasText: name });

/** Waits until the server has judged a file. @param {Page} page @param {string} name */
export const untilAccepted = (page, name) => row(page, name).getByText('Accepted').waitFor();

/** The files of the messages that were sent. @param {Page} page */
export const attached = (page) => page.getByRole('list', { name: 'Attached files' }).getByRole('listitem');

/** What holds the network of a page back. @type {WeakMap<Page, Promise<import('playwright-core').CDPSession>>} */
const brakes = new WeakMap();

/** Has what the page sends go out at so many bytes a second; 0: as fast as it goes. @param {Page} page @param {number} bytes */
export async function slow(page, bytes) {
  const brake = brakes.get(page) ?? page.context().newCDPSession(page);
  brakes.set(page, brake);
  const session = await brake;
  await session.send('Network.enable');
  await session.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: bytes || -1 });
}

/** Why the message does not go. @param {Page} page @param {string} words */
export const reason = (page, words) => page.locator('#files-reason').getByText(words);

/** Everything that is said to who cannot see the page, from now on. @param {Page} page */
export async function listen(page) {
  await page.evaluate(() => {
    const said = /** @type {string[]} */ ([]);
    const region = document.querySelector('soma-announcer');
    Object.assign(window, { said });
    if (region) new MutationObserver(() => said.push(region.textContent ?? '')).observe(region, { childList: true, characterData: true, subtree: true });
  });
  return () => page.evaluate(() => /** @type {string[]} */ (/** @type {any} */ (window).said));
}

/** The names of the files that the browser keeps over a reload. @param {Page} page @returns {Promise<string[]>} */
export const shelf = (page) => page.evaluate(() => new Promise((told, fail) => {
  const asked = indexedDB.open('soma.shelf');
  asked.onerror = () => fail(asked.error);
  asked.onsuccess = () => {
    const base = asked.result;
    const all = base.objectStoreNames.contains('files') ? base.transaction('files').objectStore('files').getAll() : null;
    if (all === null) return told([]);
    all.onsuccess = () => {
      base.close();
      told(all.result.map(({ file }) => file.name));
    };
  };
}));
