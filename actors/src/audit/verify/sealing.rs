//! Whether the sealing is where it must be.

use crate::{
    domain::{
        audit_chain::Place,
        audit_walk::{Clocks, Kind, Walk},
    },
    store::audit_chain::Standing,
};

/// What is known of the sealing besides what is written down.
pub(super) struct Sealing {
    /// What was written down before anything else was read.
    standing: Option<Standing>,
    /// The server that this is.
    server: String,
    /// Whether the newest checkpoint was signed on it.
    is_signed_here: bool,
    /// How far it was according to checkpoints …
    told: Option<Place>,
    /// … and according to rows that are sealed.
    seen: Option<Place>,
}

impl Sealing {
    pub(super) fn new(standing: Option<Standing>, server: String, clocks: &Clocks) -> Self {
        let (told, is_signed_here) = (clocks.reached(&server), clocks.newest() == Some(server.as_str()));
        Self { standing, server, is_signed_here, told, seen: None }
    }

    /// Whether the rows were numbered by this server, as far as that is known.
    pub(super) fn is_here(&self) -> bool {
        self.known_server().is_none_or(|server| server == self.server)
    }

    /// By which server the rows of a chain were numbered that never went on on another one.
    pub(super) fn server(&self) -> Option<String> {
        self.known_server().map(str::to_owned)
    }

    /// How far the sealing has been; `None` if nobody knows.
    pub(super) fn reached(&self) -> Option<Place> {
        let standing = self.standing.as_ref()?;
        // What nothing has reached is no place.
        let written = if standing.is_ahead { (0, 0) } else { standing.place };
        [self.told, self.seen, Some(written)].into_iter().max().flatten()
    }

    pub(super) fn walked(&mut self, walk: &Walk) {
        self.seen = self.seen.max(walk.reached(&self.server));
    }

    /// What is wrong with what is written down now.
    pub(super) fn judge(&self, now: Option<Standing>) -> Option<(Kind, String)> {
        let Some(now) = now else {
            let what = "it is not written down how far the sealing is, so nothing is sealed any more".to_owned();
            return Some((Kind::SealerMissing, what));
        };
        if let Some(server) = now.server.as_deref().filter(|server| *server != self.server) {
            if self.is_signed_here {
                let what = format!(
                    "the trail is said to have been sealed on the server {server:?}, and the last checkpoint was signed on this \
                     one, {:?}: somebody wrote that, and no process with the key believes it",
                    self.server
                );
                return Some((Kind::ServerForged, what));
            }
            let what = format!(
                "the trail was sealed on the server {server:?} and is on {:?}: what is not sealed will be taken over when \
                 the program starts here",
                self.server
            );
            return Some((Kind::ServerChanged, what));
        }
        if now.is_ahead {
            let what =
                "the sealing is said to be further than any transaction of the server, so nothing is sealed any more";
            return Some((Kind::SealerAhead, what.to_owned()));
        }
        let behind = |known: Option<Place>| known.is_some_and(|known| now.place < known);
        let source = if behind(self.told) {
            "a checkpoint says"
        } else if behind(self.seen) {
            "rows show that are sealed"
        } else {
            return None;
        };
        Some((Kind::SealerSetBack, format!("the sealing is said to be less far than {source}: somebody set it back")))
    }

    fn known_server(&self) -> Option<&str> {
        if self.is_signed_here {
            return Some(&self.server);
        }
        self.standing.as_ref()?.server.as_deref()
    }
}
