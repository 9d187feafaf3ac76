/**
 * Files that are on their way, kept in this browser so that they go on after a reload. Where it keeps none (a private window, a full
 * disk), or cannot tell whether another page goes on with one (plain HTTP from elsewhere), the page works without.
 * @module
 */

const NAME = 'soma.shelf';
const FILES = 'files';
/** Apart from the files, which would be written anew with each change. */
const PLACES = 'places';
/** The server gives up an upload of which nothing came for so long. */
const LASTS_MS = 24 * 3600 * 1000;

/**
 * @typedef {object} Shelved
 * @property {string} key      of the upload
 * @property {string} owner    whose it is, as {@link ../prefs.js} has it; nothing where nobody signs in
 * @property {string} session
 * @property {File} file
 * @property {number} at       when it was added, in milliseconds since 1970
 * @property {string | null} [place]  where it is on the server, if it has begun
 */

/** @type {Promise<IDBDatabase | null> | null} */
let opened = null;

/** @returns {Promise<IDBDatabase | null>} */
function open() {
  opened ??= new Promise((found) => {
    try {
      // Without locks two pages could go on with one upload.
      if (!navigator.locks) return found(null);
      const asked = indexedDB.open(NAME, 1);
      asked.onupgradeneeded = () => {
        asked.result.createObjectStore(FILES, { keyPath: 'key' });
        asked.result.createObjectStore(PLACES);
      };
      asked.onsuccess = () => {
        // Whoever deletes what this browser keeps of the site shall not have to wait for this page.
        asked.result.onversionchange = () => asked.result.close();
        found(asked.result);
      };
      asked.onerror = () => found(null);
    } catch {
      found(null);
    }
  });
  return opened;
}

/**
 * Has something done, as a whole or not at all.
 * @template T @param {'readonly' | 'readwrite'} mode @param {(files: IDBObjectStore, places: IDBObjectStore) => IDBRequest<T> | void} work
 * @returns {Promise<T | null>} what was asked for; null if nothing was done
 */
async function within(mode, work) {
  const base = await open();
  return new Promise((done) => {
    try {
      const change = /** @type {IDBDatabase} */ (base).transaction([FILES, PLACES], mode);
      const asked = work(change.objectStore(FILES), change.objectStore(PLACES));
      change.oncomplete = () => done(asked ? asked.result : null);
      change.onerror = change.onabort = () => done(null);
    } catch {
      done(null);
    }
  });
}

/** @param {Shelved} shelved @returns {Promise<boolean>} whether it is kept */
export const keep = async (shelved) => (await within('readwrite', (files) => files.put(shelved))) !== null;

/** Notes where the upload of a file is that is kept, or that it is to begin anew. @param {string} key @param {string | null} place */
export const note = (key, place) => within('readwrite', (files, places) => {
  const counted = files.count(key);
  counted.onsuccess = () => {
    if (counted.result > 0) places.put(place, key);
  };
});

/** @param {readonly string[]} keys */
export const drop = (keys) => within('readwrite', (files, places) => {
  for (const key of keys) [files, places].forEach((store) => store.delete(key));
});

/** Empties it, whoever's the files are. */
export const clear = () => within('readwrite', (files, places) => [files, places].forEach((store) => store.clear()));

/** @param {string} key @returns {Promise<Shelved | null>} */
async function get(key) {
  const file = await within('readonly', (files) => files.get(key));
  return file ? { ...file, place: await within('readonly', (_, places) => places.get(key)) ?? null } : null;
}

/** @param {number} at */
const isOld = (at) => Date.now() - at >= LASTS_MS;

/** @returns {Promise<Shelved[]>} all, the oldest first */
async function all() {
  const found = await within('readonly', (files) => files.getAll()) ?? [];
  return found.sort((one, other) => one.at - other.at);
}

/**
 * What somebody has here, whichever page goes on with it.
 * @param {string} owner @param {string} [session]  of one session alone @returns {Promise<Shelved[]>}
 */
export async function ofOwner(owner, session) {
  const mine = (await all()).filter((one) => one.owner === owner && (session === undefined || one.session === session));
  return (await Promise.all(mine.map(({ key }) => get(key)))).filter((one) => one !== null);
}

/** Ends the hold on an upload. @typedef {() => void} Release */

/** Makes an upload this page's, unless it is another one's. @param {string} key @returns {Promise<Release | null>} */
export function claim(key) {
  if (!navigator.locks) return Promise.resolve(() => {});
  return new Promise((told) => {
    const held = navigator.locks.request(`${NAME}.${key}`, { ifAvailable: true }, (lock) => {
      if (lock === null) return told(null);
      return new Promise((release) => told(() => release(undefined)));
    });
    held.catch(() => told(null));
  });
}

/**
 * Takes what somebody left under way in a session, as far as no other page goes on with it.
 * @param {string} owner @param {string} session @returns {Promise<{shelved: Shelved, release: Release}[]>}
 */
export async function take(owner, session) {
  const taken = [];
  for (const { key, at, ...of } of await all()) {
    if (of.owner !== owner || of.session !== session || isOld(at)) continue;
    const release = await claim(key);
    if (release === null) continue;
    // Another page may have come to its end since.
    const shelved = await get(key);
    if (shelved) taken.push({ shelved, release });
    else release();
  }
  return taken;
}

/** Drops what nobody has come back to in time. @returns {Promise<Shelved[]>} what it was */
export async function sweep() {
  const dropped = [];
  for (const { key, at } of await all()) {
    if (!isOld(at)) continue;
    const release = await claim(key);
    const shelved = release && await get(key);
    if (shelved) {
      dropped.push(shelved);
      await drop([key]);
    }
    release?.();
  }
  return dropped;
}
