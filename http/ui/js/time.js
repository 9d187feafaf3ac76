/**
 * Times and quantities in words.
 * @module
 */

import { text } from './strings.js';

const MINUTE = 60_000;
const DAY = 86_400_000;
const relative = new Intl.RelativeTimeFormat(text.locale, { numeric: 'auto', style: 'narrow' });
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const month = new Intl.DateTimeFormat(text.locale, { month: 'long', year: 'numeric' });
const grouped = new Intl.NumberFormat(text.locale);

/** @param {Date} at */
export const exact = (at) => full.format(at);

/**
 * "now", "4m ago", "14:05" on another hour of the same day, else the day.
 * @param {Date} at @param {Date} now
 */
export function ago(at, now) {
  const gone = now.getTime() - at.getTime();
  if (gone < MINUTE) return text.time.now;
  if (gone < 60 * MINUTE) return relative.format(-Math.floor(gone / MINUTE), 'minute');
  if (dayNumber(at) === dayNumber(now)) return clock.format(at);
  const days = dayNumber(now) - dayNumber(at);
  return days < 7 ? `${relative.format(-days, 'day')}, ${clock.format(at)}` : at.toLocaleDateString();
}

/**
 * The heading a session is listed under.
 * @param {Date} at @param {Date} now
 */
export function dayHeading(at, now) {
  const days = dayNumber(now) - dayNumber(at);
  if (days <= 0) return text.time.today;
  if (days === 1) return text.time.yesterday;
  if (days < 7) return text.time.thisWeek;
  if (days < 30) return text.time.lastDays;
  return month.format(at);
}

/** @param {Date} at days since the epoch on the local calendar */
function dayNumber(at) {
  return Math.floor((at.getTime() - at.getTimezoneOffset() * MINUTE) / DAY);
}

/** @param {number} ms @returns {string} `38 ms`, `1.4 s`, `2 min 5 s` */
export function span(ms) {
  if (ms < 1000) return text.time.milliseconds(Math.round(ms));
  if (ms < MINUTE) return text.time.seconds((ms / 1000).toFixed(1));
  return text.time.minutes(Math.floor(ms / MINUTE), Math.round((ms % MINUTE) / 1000));
}

/** @param {number} n */
export const count = (n) => grouped.format(n);
