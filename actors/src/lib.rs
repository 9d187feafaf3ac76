//! The actors of SomaAgent01 and what they stand on.
//!
//! | room | holds |
//! | --- | --- |
//! | [`conversation`] | one actor per live session: accepts messages, runs turns, streams answers |
//! | [`journal`] | the one writer of session history: group commit with a fence |
//! | [`identity`] | proves who somebody is by the tokens they show |
//! | [`policy`] | decides who may do what, by Rego inside the process or by judges on the network |
//! | [`llm`] | the client of a model: one request, one stream of pieces |
//! | [`contents`] | what is in the files that people have sent: text and pictures, made once and kept |
//! | [`extraction`] | text and thumbnails out of what strangers send, in a process that can hurt nobody |
//! | [`somabrain`] | the client of the memory service: breaker, retry, deadline |
//! | [`memory`] | what people ask about memories: lists, exports, changes |
//! | [`outbox`] | carries committed records on, out of the outbox into the log |
//! | [`replicator`] | copies what the log tells of memories into the replica |
//! | [`dead_letters`] | looks after what could not be carried on: shows it, sends it again, lets it go |
//! | [`audit`] | chains the audit trail, signs the ends of the chains, finds what does not fit |
//! | [`uploads`] | takes files while they stream: counts, hashes, types and stores them, and lets old ones go |
//! | [`settings`] | what operators save while the process runs, and what of it is in force |
//! | [`bus`] | the log: records by topic, in order by key |
//! | `base_url` | addresses of outside services as people write them, for every client |
//! | [`bounded`] | bodies of their answers, up to a limit, for every client |
//! | [`breaker`] | when to leave a server alone that does not answer, for every client |
//! | [`retry`] | waits between attempts and of work that holds back |
//! | [`secret`] | a secret of the settings that may be exchanged while the process runs |
//! | [`vault`] | secrets that are kept in Vault |
//! | [`store`] | SQL, one file a table; the only place that knows PostgreSQL |
//! | [`domain`] | the rules as values and functions, without I/O |
//!
//! Families use `store` and `bus`, `bus` uses `store`, `store` uses `domain`, `domain` uses nothing of the project. A
//! family talks to another only through its `messages`; the model client, the policy, the contents and the
//! extraction have no actor and are called as they are. This crate never reads the environment, never listens on a socket, and knows no HTTP route.

pub mod audit;
mod base_url;
pub mod bounded;
pub mod breaker;
pub mod bus;
pub mod contents;
pub mod conversation;
pub mod dead_letters;
pub mod domain;
pub mod extraction;
pub mod identity;
pub mod journal;
pub mod llm;
#[cfg(test)]
mod loopback;
pub mod memory;
pub mod outbox;
pub mod policy;
pub mod replicator;
pub mod retry;
pub mod secret;
pub mod settings;
pub mod somabrain;
pub mod store;
pub mod uploads;
pub mod vault;
