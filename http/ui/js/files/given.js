/**
 * What somebody drops or pastes.
 * @module
 */

/** Whether files are among what is dragged or pasted. @param {DataTransfer | null} transfer */
export const hasFiles = (transfer) => transfer?.types.includes('Files') ?? false;

/**
 * Files, and the names of folders, which look like files and cannot be read. Only to be asked while the event is handled.
 * @param {DataTransfer} transfer @returns {{files: File[], folders: string[]}}
 */
export function given({ items }) {
  /** @type {File[]} */
  const files = [];
  /** @type {string[]} */
  const folders = [];
  for (const item of items) {
    if (item.kind !== 'file') continue;
    const file = item.getAsFile();
    if (!file) continue;
    if (item.webkitGetAsEntry()?.isDirectory) folders.push(file.name);
    else files.push(file);
  }
  return { files, folders };
}
