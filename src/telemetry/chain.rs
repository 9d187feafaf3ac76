//! How an error is written in the log: with everything that led to it.

use std::error::Error;
use std::fmt::{self, Write as _};

use sqlx::Error as SqlError;

/// Causes beyond this one are left out: an error that names itself as its source must not hold up the log.
const LINKS_MAX: usize = 16;

/// An error and its causes in one line: `the database refused a statement: … (SQLSTATE 23505)`. A cause that the text
/// before it ends with is not repeated, and control characters are escaped.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<String> = None;
        let mut next = Some(self.0);
        for _ in 0..LINKS_MAX {
            let Some(link) = next else { break };
            let text = link.to_string();
            match &before {
                Some(before) if before.ends_with(&text) => {}
                Some(_) => write!(f, ": {}", Printable(&text))?,
                None => write!(f, "{}", Printable(&text))?,
            }
            if let Some(state) = sqlstate(link) {
                write!(f, " (SQLSTATE {})", Printable(&state))?;
            }
            before = Some(text);
            next = link.source();
        }
        Ok(())
    }
}

/// What the server calls its refusal, which its words do not say (PostgreSQL documentation, appendix A).
fn sqlstate(link: &(dyn Error + 'static)) -> Option<String> {
    let refusal = link.downcast_ref::<SqlError>()?.as_database_error()?;
    refusal.code().map(std::borrow::Cow::into_owned)
}

/// A text in which nothing moves the cursor or ends the line.
pub(super) struct Printable<'a>(pub(super) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_cause_is_told_once_and_on_one_line() {
        for (error, told) in [
            (anyhow!("alone"), "alone"),
            (anyhow!("inner").context("middle").context("outer"), "outer: middle: inner"),
            (anyhow!("refused").context("cannot connect: refused").context("lost"), "lost: cannot connect: refused"),
            (anyhow!("a\nb\u{1b}[31m").context("odd"), "odd: a\\nb\\u{1b}[31m"),
        ] {
            assert_eq!(Chain(error.as_ref()).to_string(), told);
        }
    }

    #[test]
    fn an_error_that_is_its_own_source_ends() {
        #[derive(Debug)]
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("round")
            }
        }
        impl Error for Endless {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(self)
            }
        }
        assert_eq!(Chain(&Endless).to_string(), "round");
    }
}
