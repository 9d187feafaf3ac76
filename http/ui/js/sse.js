/**
 * Reads `text/event-stream` as the HTML standard's section "Server-sent events" defines it. Written by hand
 * because the page needs what `EventSource` hides: the status of a refusal, the time of the
 * next attempt, and an id it may resume from after it closed the stream itself.
 * @module
 */

/** @typedef {{id: string | null, data: string, retry: number | null}} Block */

/**
 * A decoder that is fed text in pieces of any size.
 * @returns {(chunk: string) => Block[]} the blocks that chunk completed; `id` is the block's own, not the last one seen
 */
export function blockReader() {
  let rest = '';
  let block = emptyBlock();
  return (chunk) => {
    /** @type {Block[]} */
    const done = [];
    rest += chunk;
    // A CR at the end may be half of a CRLF: it waits for the next chunk.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line !== '') {
        readField(block, line);
        continue;
      }
      if (block.lines.length > 0 || block.retry !== null) {
        done.push({ id: block.id, data: block.lines.join('\n'), retry: block.retry });
      }
      block = emptyBlock();
    }
    return done;
  };
}

function emptyBlock() {
  return { id: /** @type {string | null} */ (null), lines: /** @type {string[]} */ ([]), retry: /** @type {number | null} */ (null) };
}

/** @param {ReturnType<typeof emptyBlock>} block @param {string} line */
function readField(block, line) {
  const colon = line.indexOf(':');
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
  if (name === 'data') block.lines.push(value);
  else if (name === 'id' && !value.includes('\0')) block.id = value;
  else if (name === 'retry' && /^\d+$/.test(value)) block.retry = Number(value);
}
