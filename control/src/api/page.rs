//! Lists: one shape for all of them. A list takes a page and its own filters, refuses whatever else the query says, and answers
//! with a [`Page`].

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;
use utoipa::{IntoParams, ToSchema};

use crate::error::{Fields, Outcome, Problem};
use crate::server::extract::query;
use crate::state::App;

/// The last page: whoever wants to read as far has better filters.
const PAGE_MAX: u32 = 1_000_000;
/// The largest page.
const SIZE_MAX: u32 = 100;
const SIZE_DEFAULT: u32 = 20;
/// The parameters of [`PageQuery`].
const PAGE: [&str; 2] = ["page", "pageSize"];

/// Which page is asked for.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// From 1.
    #[param(minimum = 1, maximum = 1_000_000, default = 1)]
    page: Option<u32>,
    /// From 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 20)]
    page_size: Option<u32>,
}

/// For lists that are not filtered.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFilter {}

/// What a list is asked for. `F` must deny unknown fields: a filter that is misspelt must not show everything.
#[derive(Debug)]
pub(super) struct Listing<F = NoFilter> {
    pub(super) filter: F,
    pub(super) window: Window,
}

impl<F: DeserializeOwned> FromRequestParts<App> for Listing<F> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Outcome<Self> {
        let (page, filter) = split(parts.uri.query().unwrap_or_default(), PAGE);
        let page: PageQuery = query(&page)?;
        Ok(Self {
            window: page.window()?,
            filter: query(&filter)?,
        })
    }
}

/// Where a list goes on that has no pages: it grows at the end that is read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CursorQuery {
    /// `nextCursor` of the page before.
    pub(super) cursor: Option<String>,
    /// From 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 50)]
    pub(super) limit: Option<u32>,
}

/// What such a list is asked for. `F` must deny unknown fields.
#[derive(Debug)]
pub(super) struct Continued<F> {
    pub(super) filter: F,
    pub(super) place: CursorQuery,
}

impl<F: DeserializeOwned> FromRequestParts<App> for Continued<F> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Outcome<Self> {
        let (place, filter) = split(parts.uri.query().unwrap_or_default(), ["cursor", "limit"]);
        Ok(Self {
            place: query(&place)?,
            filter: query(&filter)?,
        })
    }
}

/// The query in two: which part of the list, by these names, and everything else.
fn split(text: &str, names: [&str; 2]) -> (String, String) {
    let (mut page, mut filter) = (
        form_urlencoded::Serializer::new(String::new()),
        form_urlencoded::Serializer::new(String::new()),
    );
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let part = if names.contains(&&*name) {
            &mut page
        } else {
            &mut filter
        };
        part.append_pair(&name, &value);
    }
    (page.finish(), filter.finish())
}

/// A checked page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    page: u32,
    size: u32,
}

impl PageQuery {
    /// 400 for what is out of range: a client that asks for 1000 must not believe that it saw everything.
    fn window(self) -> Outcome<Window> {
        let (page, size) = (self.page.unwrap_or(1), self.page_size.unwrap_or(SIZE_DEFAULT));
        let mut fields = Fields::new();
        fields.require((1..=PAGE_MAX).contains(&page), "page", "must be from 1 to 1000000");
        fields.require((1..=SIZE_MAX).contains(&size), "pageSize", "must be from 1 to 100");
        fields.finish()?;
        Ok(Window { page, size })
    }
}

impl Window {
    pub(super) fn limit(self) -> i64 {
        i64::from(self.size)
    }

    pub(super) fn offset(self) -> i64 {
        (i64::from(self.page) - 1) * i64::from(self.size)
    }

    /// The answer, from all rows of all pages.
    pub(super) fn cut<R, T: ToSchema + From<R>>(self, all: Vec<R>) -> Page<T> {
        let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
        let skipped = usize::try_from(self.offset()).unwrap_or(usize::MAX);
        let rows = all.into_iter().skip(skipped).take(self.size as usize).collect();
        self.of((rows, total))
    }

    /// The answer: the rows of this page, and how many there are on all pages.
    pub(super) fn of<R, T: ToSchema + From<R>>(self, (rows, total): (Vec<R>, i64)) -> Page<T> {
        Page {
            data: rows.into_iter().map(T::from).collect(),
            total,
            page: self.page,
            page_size: self.size,
        }
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(super) struct Page<T: ToSchema> {
    data: Vec<T>,
    /// On all pages.
    total: i64,
    page: u32,
    page_size: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_told_from_the_filters() {
        assert_eq!(split("", PAGE), (String::new(), String::new()));
        let (page, filter) = split("status=a%20b&page=2&kind=x&pageSize=5&page=3", PAGE);
        assert_eq!((&*page, &*filter), ("page=2&pageSize=5&page=3", "status=a+b&kind=x"));
        let given_twice = query::<PageQuery>(&page).unwrap_err();
        assert!(
            given_twice.failure().to_string().contains("duplicate field"),
            "{given_twice:?}"
        );
    }
}
