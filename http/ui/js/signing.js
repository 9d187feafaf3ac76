/**
 * Who is signed in, and the ways out and back in. What stands in the composer goes along to the provider and back.
 * @module
 */
/** @import { Person } from './types.js' */
import * as api from './api.js';
import { reconnect } from './conversation.js';
import * as shelf from './files/shelf.js';
import * as uploads from './files/uploads.js';
import * as prefs from './prefs.js';
import { draftName, signInAddress } from './route.js';
import { current, update } from './store.js';

/** Tells the other pages of this browser that somebody has signed in. */
const others = new BroadcastChannel('soma.signing');

/** @param {Person | null} person */
const nameOf = (person) => person && `${person.tenant}/${person.subject}`;

/** Whose page this is, as far as that is known. */
let mine = prefs.read('owner');

/** Whether what was typed in this browser may be somebody's who is not here now: nothing of it is shown before it is known. */
export const isOwned = () => prefs.read('owner') !== null || prefs.isWayTaken();

/** Learns who is signed in, and brings back what they were typing when they left. What somebody else has typed is forgotten. */
export async function meet() {
  const person = await whoever();
  update({ person });
  const before = prefs.read('owner');
  const owner = nameOf(person) ?? before;
  if (before !== null && before !== owner) await forgetTyped();
  prefs.write('owner', owner);
  mine = owner;
  const kept = prefs.takeFromWay();
  if (kept && [null, owner].includes(kept.owner)) prefs.write(kept.name, kept.draft);
  if (person) others.postMessage('signed in');
}

/** Goes on by itself when the same person signs in on another page. */
export function followOthers() {
  others.onmessage = async () => {
    if (current().connection.kind !== 'signed-out') return;
    const person = await whoever();
    if (!person) return;
    // What is shown here is not for anybody else.
    if (nameOf(person) !== nameOf(current().person)) location.replace('/');
    else reconnect();
  };
  // What is on its way here would go out in the name of whoever signed in on another page.
  prefs.follow('owner', (owner) => {
    if (mine !== null && owner !== mine) uploads.forgetAll();
  });
  addEventListener('pageshow', ({ persisted }) => {
    // Somebody came back without the page having gone: what they type from now on is newer.
    if (persisted) prefs.takeFromWay();
  });
}

/** A server that is away does not say that nobody is here. */
const whoever = () => api.insist(api.person);

/** Leaves for the provider. */
export function signIn() {
  const { draft, person } = current();
  if (draft !== '') prefs.keepOnWay({ name: draftName(location.pathname), draft, owner: nameOf(person) });
  location.assign(signInAddress(location.pathname));
}

/** Ends the login, on every page of it. */
export const signOut = () => leaveAfter(api.signOut);

/** Ends all logins of this person, wherever they are. */
export const signOutEverywhere = () => leaveAfter(api.signOutEverywhere);

/** Leaves once nobody is signed in; whoever sits down here next finds nothing that was typed. @param {() => Promise<unknown>} end */
async function leaveAfter(end) {
  await uploads.takeBack();
  try {
    await end();
  } catch (error) {
    uploads.goOn();
    throw error;
  }
  uploads.forgetAll();
  await forgetTyped();
  location.assign('/login');
}

/** Forgets what was typed and added in this browser, whoever did. */
async function forgetTyped() {
  prefs.forgetTyped();
  await shelf.clear();
}
