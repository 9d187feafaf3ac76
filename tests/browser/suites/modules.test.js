/** The page's pure modules, without a browser. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { admit, limits } from '../../../http/ui/js/files/limits.js';
import * as words from '../../../http/ui/js/files/words.js';
import { draftName, signInAddress } from '../../../http/ui/js/route.js';
import { blockReader } from '../../../http/ui/js/sse.js';
import * as turns from '../../../http/ui/js/turns.js';

test('blocks are read whatever pieces they arrive in', () => {
  const stream = 'retry: 1000\n\n: comment\nid: 7\r\ndata: one\r\ndata: two\r\n\r\ndata:three\n\nid: 8\ndata: unfinished';
  const wanted = [
    { id: null, data: '', retry: 1000 },
    { id: '7', data: 'one\ntwo', retry: null },
    { id: null, data: 'three', retry: null },
  ];
  for (const size of [1, 2, 3, 7, stream.length]) {
    const read = blockReader();
    const blocks = [];
    for (let at = 0; at < stream.length; at += size) blocks.push(...read(stream.slice(at, at + size)));
    assert.deepEqual(blocks, wanted, `in pieces of ${size}`);
  }
});

/** @param {number} id @param {string} message @param {object} [metadata] */
const user = (id, message, metadata = {}) => ({
  id, occurred_at: '2026-01-01T00:00:00Z', payload: { type: 'user', role: 'user', event_id: `u${id}`, message, metadata: { sequence: id, ...metadata } },
});

/** @param {number} id @param {string} message @param {object} metadata */
const final = (id, message, metadata) => ({
  id, occurred_at: '2026-01-01T00:00:01Z',
  payload: { type: 'assistant.final', role: 'assistant', event_id: `a${id}`, message, metadata: { sequence: id, completed: true, ...metadata } },
});

/** @param {string} id @param {string} type @param {string} [message] */
const live = (id, type, message = '') => ({ id, event: { type, role: 'assistant', message, metadata: {} } });

/** @param {ReturnType<typeof turns.applyStored>} list */
const shown = (list) => list.map(({ said, answer }) => [said?.text ?? null, answer && `${answer.phase}: ${answer.text}`]);

test('an answer belongs to the turn it names, also when another message came between', () => {
  const list = [user(1, 'first'), user(2, 'second'), final(3, 'to the first', { turn: 1 }), final(4, 'to the second', { turn: 2 })].reduce(turns.applyStored, /** @type {any[]} */ ([]));
  assert.deepEqual(shown(list), [['first', 'final: to the first'], ['second', 'final: to the second']]);
});

test('text of an earlier attempt is dropped when the next one starts, and cannot come back', () => {
  let list = turns.applyStored([], user(1, 'question'));
  list = turns.applyLive(list, live('1.1.1', 'assistant.started'));
  list = turns.applyLive(list, live('1.1.3', 'assistant.stream', 'void'));
  assert.deepEqual(shown(list), [['question', 'streaming: void']]);
  list = turns.applyLive(list, live('1.2.1', 'assistant.started'));
  assert.deepEqual(shown(list), [['question', 'thinking: ']]);
  list = turns.applyLive(list, live('1.1.4', 'assistant.stream', 'void again'));
  assert.deepEqual(shown(list), [['question', 'thinking: ']]);
  list = turns.applyLive(list, live('1.2.3', 'assistant.stream', 'new'));
  assert.deepEqual(shown(list), [['question', 'streaming: new']]);
});

test('a frame of a later attempt replaces the text even when its start was missed', () => {
  let list = turns.applyStored([], user(1, 'question'));
  list = turns.applyLive(list, live('1.1.3', 'assistant.stream', 'void'));
  list = turns.applyLive(list, live('1.2.9', 'assistant.stream', 'new'));
  assert.deepEqual(shown(list), [['question', 'streaming: new']]);
});

test('a message of this page is shown once, whether the stream or the reply comes first', () => {
  const streamed = user(1, 'mine', { client_message_id: 'k' });
  const reply = { event_id: 'u1', seq: 1 };
  const sent = turns.withUnsent([], 'k', { text: 'mine', attachments: [] });
  const streamFirst = turns.acknowledged(turns.applyStored(sent, streamed), 'k', reply);
  const replyFirst = turns.applyStored(turns.acknowledged(sent, 'k', reply), streamed);
  for (const list of [streamFirst, replyFirst]) {
    assert.equal(list.length, 1);
    assert.equal(list[0].key, 'k');
    assert.equal(list[0].said?.delivery, 'stored');
  }
});

test('a message the stream brought is not failed by a lost reply', () => {
  const sent = turns.withUnsent([], 'k', { text: 'mine', attachments: [] });
  const list = turns.refused(turns.applyStored(sent, user(1, 'mine', { client_message_id: 'k' })), 'k', { status: 0, code: 'unreachable', detail: '', retryAfter: null });
  assert.equal(list[0].said?.delivery, 'stored');
});

test('a late frame changes no finished answer', () => {
  const list = [user(1, 'question'), final(2, 'done', { turn: 1 })].reduce(turns.applyStored, /** @type {any[]} */ ([]));
  assert.equal(turns.applyLive(list, live('1.1.9', 'assistant.stream', 'late')), list);
});

test('a message has the attachments that its event names, and nothing else that stands there', () => {
  const [one, two] = ['0190a3f0-0000-7000-8000-00000000000a', '0190a3f0-0000-7000-8000-00000000000b'];
  const event = user(1, 'look', { client_message_id: 'k' });
  const attachments = [`att://${one}`, `att://${two}`, 'att://../../v1/keys', 'https://evil.example/x', `javascript:${one}`];
  const sent = turns.withUnsent([], 'k', { text: 'look', attachments: [one] });
  assert.deepEqual(sent[0].said?.attachments, [one]);
  const stored = turns.applyStored(sent, { ...event, payload: { ...event.payload, attachments } });
  assert.deepEqual(stored[0].said?.attachments, [one, two]);
  assert.deepEqual(turns.applyStored([], event)[0].said?.attachments, []);
});

test('people are sent back from the provider to pages of this door only', () => {
  const id = '0190a3f0-0000-7000-8000-00000000000a';
  assert.equal(signInAddress(`/s/${id}`), `/v1/auth/login?next=%2Fs%2F${id}`);
  assert.equal(signInAddress(`/s/${id.toUpperCase()}`), `/v1/auth/login?next=%2Fs%2F${id}`);
  for (const path of ['/', '', '/docs', '//evil.example', 'https://evil.example', `//s/${id}`, `/s/${id}/../x`, `/s/${id}?x`, '/v1/auth/logout']) {
    assert.equal(signInAddress(path), '/v1/auth/login', path);
  }
});

test('what is typed is kept for its conversation, and before there is one for all of these', () => {
  const id = '0190a3f0-0000-7000-8000-00000000000a';
  assert.equal(draftName(`/s/${id}`), `draft.${id}`);
  assert.equal(draftName('/'), 'draft.new');
});

test('sizes are told in powers of 1024, and types in a word', () => {
  const sizes = [0, 1, 1023, 1024, 1536, 10 * 1024, 1 << 20, 26_214_400, 3 * 2 ** 40, 2 ** 60];
  assert.deepEqual(sizes.map(words.size), ['0 bytes', '1 byte', '1023 bytes', '1 KB', '1.5 KB', '10 KB', '1 MB', '25 MB', '3 TB', '1,048,576 TB']);
  const types = [['application/pdf', 'a.pdf'], ['image/png', 'a'], ['text/plain', 'a.log'], ['application/octet-stream', 'a.bin'], ['application/x-7z-compressed', 'b.7z'], ['', 'none'], ['x/y<b>', 'a.<b>']];
  assert.deepEqual(types.map(([type, name]) => words.typeWord(type, name)), ['PDF', 'PNG', 'Text', 'File', '7Z', 'File', 'File']);
  assert.deepEqual(['image/png', 'audio/ogg', 'video/mp4', 'application/zip', 'text/csv', 'application/pdf', 'application/epub+zip', ''].map(words.kind),
    ['picture', 'sound', 'film', 'archive', 'writing', 'writing', 'file', 'file']);
});

test('a name shows nothing that hides or turns, and keeps its ending when it is cut', () => {
  assert.equal(words.shown('\u202egnp.exe\u0000'), 'gnp.exe');
  assert.equal(words.shown('\u200b \n'), 'file');
  assert.deepEqual(words.parts('short.txt'), ['short.txt', '']);
  const [head, end] = words.parts(`${'a'.repeat(4096)}.tar.gz`);
  assert.deepEqual([head.length, end], [4093, 'aaa.tar.gz']);
  assert.equal(words.said('\u{1f600}'.repeat(100)), `${'\u{1f600}'.repeat(40)}…${'\u{1f600}'.repeat(10)}`);
});

test('the name of a download is read from its header, whatever is in it', () => {
  const names = [
    ['attachment; filename="a b.txt"', 'a b.txt'],
    ['attachment; filename="na\\"me;.txt"; filename*=UTF-8\'\'n%C3%A4me.txt', 'näme.txt'],
    ['attachment; filename="x.txt"; filename*=UTF-8\'\'%E0%A4%A', 'x.txt'],
    ['attachment; filename="say \\"hi\\".txt"', 'say "hi".txt'],
    ['attachment; filename=bare.txt', 'bare.txt'],
    ['attachment', ''],
  ];
  for (const [header, name] of names) assert.equal(words.nameIn(header), name, header);
});

test('files are admitted as far as the server takes them', () => {
  const file = (/** @type {string} */ name, size = 1, type = '') => /** @type {File} */ ({ name, size, type });
  const held = limits({ uploads_enabled: true, uploads: { max_bytes: 100, max_files: 2, allowed_mime: ['text/plain', 'image/png'], denied_mime: ['image/png'] } });
  const admitted = admit([file('a.txt', 100, 'text/plain; charset=utf-8'), file('b', 101), file('c.png', 1, 'image/png'), file('d.pdf', 1, 'application/pdf'), file('e', 0), file('f'), file('g')], 0, held);
  assert.deepEqual(admitted.taken.map(({ name }) => name), ['a.txt', 'f']);
  assert.equal(admitted.reasons.length, 5);
  assert.match(admitted.reasons[4], /^One file was not added: a message takes 2 files at most/);
  assert.deepEqual(admit([file('a')], 2, held).taken, []);
  assert.deepEqual(admit([file('a')], 0, limits({ uploads_enabled: false })), { taken: [], reasons: ['This server takes no files.'] });
  // Without a configuration the server decides, but for what no message takes.
  assert.equal(admit(Array.from({ length: 40 }, (_, at) => file(`${at}`, 2 ** 40)), 0, limits(null)).taken.length, 32);
});
