/**
 * A conversation that shows every kind of block an answer can have.
 * @module
 */

export const QUESTION = 'When does the night train leave, and what should I bring?';

export const TRAIN = `The night train leaves at **22:04** from platform 3 and arrives at 06:41.

## What to bring

1. A ticket; the conductor asks for it before Lyon.
2. Tea. The water is free, the cups are not.

\`\`\`rust
/// When to leave home: the walk takes as long as it takes.
fn leave_at(train: Time, walk: Duration) -> Time {
    train - walk - Duration::minutes(12) // the lift of platform 3 is slow, and everybody takes it
}
\`\`\`

| Class | Price | Berths |
| --- | ---: | :---: |
| Couchette | 39 € | six |
| Sleeper | 112 € | two |

> The dining car closes at midnight.

More at [the timetable](https://example.org/trains).`;
