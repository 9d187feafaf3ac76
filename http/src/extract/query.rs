//! Query parameters, one by one, with errors that name the parameter.

use std::{ops::RangeInclusive, str::FromStr};

use actix_web::{HttpRequest, web};
use somaagent_actors::domain::ids::Tenant;

use super::{FromHead, caller::TENANT_RULE};
use crate::problem::{Code, Problem};

/// The parameters of a request's query. Unknown ones are ignored; a known one that is given twice is refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// The parameter `name`; an empty one is as good as none.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
        let value = values.next().filter(|value| !value.is_empty());
        if values.next().is_some() {
            return Err(bad(name, "is given more than once"));
        }
        if value.is_some_and(|value| value.contains('\0')) {
            return Err(bad(name, "must not contain U+0000"));
        }
        Ok(value)
    }

    /// The parameter `name` read as a `T`, which `expected` describes.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Problem> {
        let parse = |text: &str| text.parse().map_err(|_| bad(name, &format!("must be {expected}")));
        self.text(name)?.map(parse).transpose()
    }

    /// The whole number `name` inside `range`.
    pub(crate) fn number(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Problem> {
        let (min, max) = (range.start(), range.end());
        let expected = if *max == i64::MAX {
            format!("must be a whole number, {min} or more")
        } else {
            format!("must be a whole number from {min} to {max}")
        };
        let parse = |text: &str| text.parse().ok().filter(|value| range.contains(value));
        self.text(name)?.map(|text| parse(text).ok_or_else(|| bad(name, &expected))).transpose()
    }

    /// The page size `limit`, from 1 to `max`, else `default`.
    pub(crate) fn limit(&self, max: i64, default: i64) -> Result<i64, Problem> {
        Ok(self.number("limit", 1..=max)?.unwrap_or(default))
    }

    /// The sequence number `after` which the page starts.
    pub(crate) fn after(&self) -> Result<Option<i64>, Problem> {
        self.number("after", 0..=i64::MAX)
    }

    /// The tenant that the query names.
    pub(crate) fn tenant(&self) -> Result<Option<Tenant>, Problem> {
        let parse = |text: &str| Tenant::new(text.trim()).ok_or_else(|| bad("tenant", TENANT_RULE));
        self.text("tenant")?.map(parse).transpose()
    }
}

/// A wrong parameter.
pub(crate) fn bad(name: &str, msg: &str) -> Problem {
    Problem::new(Code::InvalidQuery).at(&["query".into(), name.into()], msg)
}

impl FromHead for Query {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        pairs.map(|pairs| Self(pairs.into_inner())).map_err(|error| {
            Problem::new(Code::InvalidQuery)
                .because("the query is not application/x-www-form-urlencoded")
                .caused_by(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(text).map(web::Query::into_inner);
        Query(pairs.unwrap_or_default())
    }

    #[test]
    fn numbers_stay_inside_their_range() {
        assert_eq!(query("limit=7&x=y").limit(10, 5).ok(), Some(7));
        assert_eq!(query("").limit(10, 5).ok(), Some(5));
        assert_eq!(query("limit=").limit(10, 5).ok(), Some(5));
        for bad in ["limit=0", "limit=11", "limit=-1", "limit=x", "limit=1.5", "limit=1&limit=2", "limit=1%00"] {
            assert!(query(bad).limit(10, 5).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn an_error_names_the_parameter() {
        let error = query("after=-2").after().map_or_else(|problem| problem.to_string(), |_| String::new());
        assert_eq!(error, "query.after: must be a whole number, 0 or more");
    }
}
