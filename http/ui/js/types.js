/**
 * The shapes the page works with: first what the server sends, then what the page keeps.
 * Types only; nothing here runs.
 * @module
 */

/**
 * An event as stored in a session's history or sent on its stream.
 * @typedef {object} WireEvent
 * @property {string} type
 * @property {string} [event_id]
 * @property {string} [session_id]
 * @property {string | null} [persona_id]
 * @property {string} [role]
 * @property {string} [message]  text, cumulative in stream frames
 * @property {string} [html]     the server's sanitised rendering of `message`
 * @property {string[]} [attachments]  `att://<id>`
 * @property {Metadata} [metadata]
 */

/**
 * @typedef {object} Metadata
 * @property {number} [sequence]   `seq`, on stored events only
 * @property {number} [turn]       `seq` of the user event that is answered
 * @property {number} [attempt]
 * @property {boolean} [completed]
 * @property {string} [error_code]
 * @property {string} [partial]    what a failed answer had written
 * @property {string} [model]
 * @property {'length' | 'content_filter'} [finish_reason]  why the model broke off
 * @property {string} [client_message_id]  the page's own mark on what it sent
 * @property {{state: RecallState, count?: number}} [recall]
 * @property {{input_tokens?: number, output_tokens?: number, total_tokens?: number}} [usage]
 * @property {{first_delta_ms?: number | null, total_ms?: number}} [timing]
 */

/** @typedef {'ok' | 'unavailable' | 'timeout' | 'denied' | 'off'} RecallState */

/**
 * One item of `GET /v1/sessions/{id}/events`.
 * @typedef {object} StoredEvent
 * @property {number} id            `seq`
 * @property {string} occurred_at
 * @property {WireEvent} payload
 */

/**
 * A session as the list shows it.
 * @typedef {object} SessionSummary
 * @property {string} session_id
 * @property {string | null} [title]
 * @property {number} [last_seq]
 * @property {boolean} [paused]
 * @property {string} created_at
 * @property {string} updated_at
 */

/**
 * `GET /v1/sessions/{id}/state`: the conversation as its actor sees it.
 * @typedef {object} SessionState
 * @property {string} session_id
 * @property {number} head
 * @property {null | {turn_seq: number, attempt: number, state: string, started_at: string,
 *   text_bytes: number, first_delta_ms: number | null, model: string | null}} turn
 * @property {{turn_seq: number, event_id: string}[]} queue
 * @property {Record<string, {depth: number, capacity: number} | null>} mailbox
 * @property {number} subscribers
 * @property {boolean} live
 * @property {boolean} paused
 * @property {string | null} title
 * @property {string | null} persona_id
 * @property {null | {node: string | null, epoch: number, lease_until: string | null}} owner
 * @property {null | {state: RecallState, took_ms: number, items: {text: string, score: number, source: string | null}[]}} last_recall
 * @property {null | {tokens: number, budget: number, messages: number,
 *   cut: {memories: number, history_messages: number, files: number},
 *   files: {id: string, name: string, chars: number, missing_chars: number, why: string | null}[]}} last_context
 * @property {null | {input_tokens: number, output_tokens: number, total_tokens: number}} last_usage
 * @property {null | {first_delta_ms: number | null, total_ms: number}} last_timing
 */

/**
 * `GET /ui/config.json`.
 * @typedef {object} UiConfig
 * @property {string} [version]
 * @property {string} [deployment_mode]
 * @property {'offline' | 'model'} [responder]
 * @property {string | null} [model]
 * @property {string | null} [universe_default]
 * @property {string} [namespace_default]
 * @property {Record<string, boolean>} [features]
 * @property {boolean} [uploads_enabled]
 * @property {{max_bytes: number, max_files: number, allowed_mime: string[], denied_mime: string[]}} [uploads]  types in lower case
 * @property {{enabled: boolean, provider: string | null}} [sign_in]  whether people can sign in, and at what
 * @property {string | null} [csrf_cookie]  the cookie whose value requests that change something show as a header
 */

/**
 * `GET /v1/auth/session`: who is signed in.
 * @typedef {object} Person
 * @property {string | null} tenant    null while nobody has to say who they are, as `subject`
 * @property {string | null} subject
 * @property {string | null} name
 * @property {string[]} scopes
 * @property {boolean} provider_login  signed in at the provider, rather than with a token from elsewhere
 */

/**
 * One frame of a session's stream; `id` is absent on heartbeats.
 * @typedef {{id: string | null, event: WireEvent}} Frame
 */

/**
 * The running or finished answer of a turn.
 * @typedef {object} Answer
 * @property {'thinking' | 'streaming' | 'final' | 'stopped' | 'error'} phase
 * @property {number} attempt
 * @property {number} frame        number of the last live frame applied, so that a repeated one is dropped
 * @property {string} text
 * @property {string | null} html
 * @property {string} reasoning    what the model says it is thinking, if it does
 * @property {number | null} seq   set once stored
 * @property {string | null} at
 * @property {Metadata} metadata
 */

/**
 * What a person wants to say.
 * @typedef {{text: string, attachments: string[]}} Words  ids of attachments
 */

/**
 * A file of a message that is being written.
 * @typedef {object} Upload
 * @property {string} key       this page's own
 * @property {string} session
 * @property {string} name      the server's, once it has the file
 * @property {number} size      in bytes
 * @property {string} type      its media type, or nothing
 * @property {'waiting' | 'sending' | 'paused' | 'checking' | 'clean' | 'quarantined' | 'refused'} phase  `paused`: it broke off, and goes on by itself
 * @property {number} sent      which part of 1 is there
 * @property {string | null} id       of the attachment, once there is one
 * @property {string | null} reason   why it is quarantined
 * @property {Problem | null} problem why it was not taken, or does not go on just now
 */

/**
 * What a person said. `sending` and `failed` exist on this page only.
 * @typedef {object} Said
 * @property {string} text
 * @property {string[]} attachments  ids
 * @property {string | null} at
 * @property {'stored' | 'sending' | 'failed'} delivery
 * @property {Problem | null} problem
 */

/**
 * @typedef {object} Turn
 * @property {string} key            stable over the turn's life: the page's own mark, else the event id
 * @property {number | null} seq     `seq` of the user event
 * @property {string | null} eventId
 * @property {Said | null} said      null for an answer that nobody asked for (imported sessions)
 * @property {Answer | null} answer
 */

/**
 * Why a request failed, in words a person can act on.
 * @typedef {object} Problem
 * @property {number} status   0 when the server was not reached
 * @property {string} code     stable code; `unreachable` when the server was not reached
 * @property {string} detail
 * @property {number | null} retryAfter  seconds
 * @property {{loc: (string | number)[], msg: string}[]} [places]  what of the request is wrong
 */

/**
 * @typedef {{kind: 'connecting'} | {kind: 'live'} | {kind: 'offline'} | {kind: 'signed-out'} | {kind: 'closed'}
 *   | {kind: 'parked'} | {kind: 'waiting', until: number}} Connection
 */

/**
 * The open conversation.
 * @typedef {object} Conversation
 * @property {string} id
 * @property {boolean} fresh       no message has been stored yet
 * @property {'loading' | 'ready' | 'failed' | 'missing' | 'deleted'} phase
 * @property {Problem | null} problem
 * @property {string | null} title
 * @property {boolean} paused
 * @property {Turn[]} turns        in order of `seq`; unsent ones last
 * @property {StoredEvent[]} events  in order of `seq`
 * @property {boolean} earlier     there are older events the page has not fetched
 * @property {SessionState | null} inspected
 */

/**
 * @typedef {object} SessionList
 * @property {SessionSummary[]} items
 * @property {string | null} next      address of the next page
 * @property {string} query
 * @property {'loading' | 'ready' | 'failed'} phase
 */

/**
 * @typedef {null | {name: 'palette' | 'keys' | 'settings' | 'actors'}
 *   | {name: 'confirm', title: string, detail: string, action: string, run: () => void}} Overlay
 */

/**
 * @typedef {object} State
 * @property {UiConfig | null} config
 * @property {Person | null} person    who is signed in, if that is known
 * @property {'ok' | 'degraded' | 'down' | null} memory  how the memory service is, if that is known
 * @property {SessionList} sessions
 * @property {Conversation} conversation
 * @property {Connection} connection
 * @property {string} draft          what stands in the composer
 * @property {Overlay} overlay
 * @property {boolean} inspecting    the inspector is shown
 * @property {boolean} renaming      the open conversation's title is being edited
 * @property {boolean} listOpen      the list is slid over a narrow page
 * @property {'system' | 'light' | 'dark'} theme
 * @property {string | null} toast
 * @property {readonly Upload[]} uploads  files of messages that are being written, of every session
 * @property {readonly {session: string, text: string}[]} awaited  messages that go once their files are there
 * @property {{session: string, reasons: string[]} | null} unadded  why some of the last files were not added
 * @property {{line: string} | null} announced  the last thing said to who cannot see the page
 * @property {boolean} offlineNoteHidden
 */

export {};
