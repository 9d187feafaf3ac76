//! What may happen to a trail that nobody touches.

use super::*;
use crate::domain::{
    audit_chain::{ACTION, DETAILS, Place, TAKEOVER, TS, VERSION, content},
    audit_walk::{Finding, Vouched, Walk},
};

pub(super) const TENANTS: usize = 3;
/// Chains signed in one transaction.
const PART: usize = 2;
/// Seconds from 1970 to 2000.
const EPOCH_2000: i64 = 946_684_800;

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A row is written.
    Write(usize),
    /// A row is written by a transaction that goes on.
    Begin(usize),
    /// All transactions that go on end.
    Commit,
    /// Up to so many rows are sealed.
    Seal(usize),
    /// A round of so many parts, or until there is no more to sign.
    Sign(usize),
    /// A part signed by a program that does not tell how far the signing is.
    SignAsBefore,
    /// From here on there is a key.
    Key,
    /// The trail is brought to another server and taken over.
    Move(usize),
    /// Seconds go by.
    Wait(i64),
    /// The clock is ahead or behind by so many seconds.
    Drift(i64),
    /// The log loses its oldest checkpoints, so many tenths of them.
    Forget(usize),
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..TENANTS).prop_map(Event::Write),
        2 => (0..TENANTS).prop_map(Event::Begin),
        2 => Just(Event::Commit),
        6 => (1..6_usize).prop_map(Event::Seal),
        5 => (1..4_usize).prop_map(Event::Sign),
        1 => Just(Event::SignAsBefore),
        2 => Just(Event::Key),
        1 => (0..3_usize).prop_map(Event::Move),
        3 => (0..3 * HOUR).prop_map(Event::Wait),
        1 => (-200..200_i64).prop_map(Event::Drift),
        1 => (0..10_usize).prop_map(Event::Forget),
    ]
}

#[derive(Clone, Debug)]
struct Row {
    place: Place,
    tenant: usize,
    said: Said,
    is_open: bool,
}

#[derive(Clone, Debug, Default)]
struct Chain {
    entries: Vec<Entry>,
    head: Head,
    signed: i64,
    began_on: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct History {
    now: i64,
    drift: i64,
    server: usize,
    /// The last transaction of each server.
    xacts: [i64; 3],
    rows: Vec<Row>,
    id: i64,
    stand: Place,
    chains: [Chain; TENANTS],
    has_key: bool,
    log: Vec<(usize, Known)>,
}

fn name(tenant: usize) -> String {
    format!("t{tenant}")
}

impl History {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Write(tenant) => self.write(tenant, false),
            Event::Begin(tenant) => self.write(tenant, true),
            Event::Commit => self.rows.iter_mut().for_each(|row| row.is_open = false),
            Event::Seal(limit) => self.seal(limit),
            Event::Sign(parts) => {
                for _ in 0..parts {
                    if !self.has_key || self.sign(true) < PART {
                        break;
                    }
                }
            }
            Event::SignAsBefore if self.has_key => {
                self.sign(false);
            }
            Event::Key => self.has_key = true,
            Event::Move(to) if self.has_key && to != self.server => self.move_to(to),
            Event::SignAsBefore | Event::Move(_) => {}
            Event::Wait(seconds) => self.now += seconds,
            Event::Drift(seconds) => self.drift = seconds,
            Event::Forget(tenths) => {
                self.log.drain(..self.log.len() * tenths / 10);
            }
        }
    }

    /// Seconds since 1970.
    fn clock(&self) -> i64 {
        EPOCH_2000 + HOUR + self.now + self.drift
    }

    fn here(&self) -> String {
        format!("server {}", self.server)
    }

    fn next_xact(&mut self) -> i64 {
        self.xacts[self.server] += 1;
        self.xacts[self.server]
    }

    fn said(&self, xact: i64) -> Said {
        let mut said = vec![None; XACT + 1];
        said[TS] = Some(format!("{:016x}", ((self.clock() - EPOCH_2000) * 1_000_000).cast_unsigned()));
        said[XACT] = Some(xact.to_string());
        said
    }

    fn write(&mut self, tenant: usize, is_open: bool) {
        let xact = self.next_xact();
        self.id += 1;
        self.rows.push(Row { place: (xact, self.id), tenant, said: self.said(xact), is_open });
    }

    fn link(&mut self, tenant: usize, event_id: i64, said: Said) {
        let here = self.here();
        let chain = &mut self.chains[tenant];
        chain.began_on.get_or_insert(here);
        let link = chain.head.seal(&name(tenant), event_id, content(VERSION, &said).unwrap());
        let (number, content, hash) = (link.number, link.content, link.hash);
        chain.entries.push(Entry { number, event_id, version: VERSION, content, hash, said: Some(said) });
    }

    fn seal(&mut self, limit: usize) {
        let open = self.rows.iter().filter(|row| row.is_open).map(|row| row.place.0).min().unwrap_or(i64::MAX);
        self.rows.sort_by_key(|row| row.place);
        let ready = self.rows.iter().take_while(|row| row.place.0 < open).take(limit).count();
        for row in self.rows.drain(..ready).collect::<Vec<_>>() {
            self.stand = row.place;
            self.link(row.tenant, row.place.1, row.said);
        }
    }

    /// Signs a part, and returns how many chains that were.
    fn sign(&mut self, tells: bool) -> usize {
        let is_first = self.chains.iter().all(|chain| chain.signed == 0);
        let next = self.next_xact();
        let grown = (0..TENANTS).filter(|tenant| self.chains[*tenant].signed < self.chains[*tenant].head.number);
        let mut grown: Vec<usize> = grown.take(PART + 1).collect();
        let is_whole = grown.len() <= PART;
        grown.truncate(PART);
        let signing = tells.then_some(Signing { is_first, is_whole, chains: i64::try_from(grown.len()).unwrap() });
        let stand = Stand { server: self.here(), xact: self.stand.0, id: self.stand.1, next, signing };
        let at = self.clock();
        for tenant in &grown {
            let chain = &mut self.chains[*tenant];
            chain.signed = chain.head.number;
            let source = format!("the checkpoint at {at}");
            let known = Known { head: chain.head, source, at: Some(at), stand: Some(stand.clone()) };
            self.log.push((*tenant, known));
        }
        grown.len()
    }

    /// What was not committed is lost; what was not sealed is sealed behind the row that tells of it.
    fn move_to(&mut self, to: usize) {
        let from = self.here();
        self.server = to;
        let begun = self.next_xact();
        let mut rows = std::mem::take(&mut self.rows);
        rows.retain(|row| !row.is_open);
        rows.sort_by_key(|row| row.place.1);
        for tenant in 0..TENANTS {
            let own: Vec<Row> = rows.iter().filter(|row| row.tenant == tenant).cloned().collect();
            if !own.is_empty() || self.chains[tenant].head.number > 0 {
                self.take_over(tenant, &from, begun, own);
            }
        }
        self.stand = (begun, -1);
    }

    fn take_over(&mut self, tenant: usize, from: &str, begun: i64, rows: Vec<Row>) {
        let (xact, here, count) = (self.next_xact(), self.here(), i64::try_from(rows.len()).unwrap());
        let end = self.chains[tenant].head;
        let vouched = Vouched::behind(&end, &name(tenant), (Some(from), &here), count, self.clock());
        let signature = serde_json::to_string(&vouched).unwrap();
        let details = serde_json::json!({"from": from, "to": here, "rows": count, "signature": signature});
        let mut said = self.said(xact);
        (said[ACTION], said[DETAILS]) = (Some(TAKEOVER.to_owned()), Some(details.to_string()));
        self.id += 1;
        self.chains[tenant].began_on.get_or_insert_with(|| from.to_owned());
        self.link(tenant, self.id, said);
        for mut row in rows {
            row.said[XACT] = Some((begun - 1).to_string());
            self.link(tenant, row.place.1, row.said);
        }
    }

    /// How far everything was sealed when a round first ended.
    pub(super) fn first_signed(&self) -> Place {
        let whole = |stand: &&Stand| stand.signing.is_some_and(|signing| signing.is_whole);
        let stand = self.log.iter().filter_map(|(_, known)| known.stand.as_ref()).find(whole).unwrap();
        (stand.xact, stand.id)
    }

    /// Somebody makes a link for a row that says that it was there.
    pub(super) fn smuggle(&mut self, tenant: usize, place: Place) {
        let said = self.said(place.0);
        self.link(tenant, place.1, said);
    }

    /// What is found in the chain of a tenant.
    pub(super) fn walked(&self, tenant: usize) -> Vec<Finding> {
        let mut clocks = Clocks::default();
        for (_, known) in &self.log {
            clocks.learn(known.stand.as_ref(), known.at.unwrap());
        }
        let own = self.log.iter().filter(|(of, _)| *of == tenant).map(|(_, known)| known.clone());
        let own: Vec<Known> = own.collect();
        let reader: Reader = Arc::new(|text: &str| serde_json::from_str(text).ok());
        let judge = Judge::new(&name(tenant), &own, Some(reader), Arc::new(clocks));
        let chain = &self.chains[tenant];
        let mut walk = Walk::new(judge, own, chain.began_on.clone());
        for entry in &chain.entries {
            walk.step(entry);
        }
        walk.end((chain.head.number > 0).then_some(chain.head)).findings
    }
}
