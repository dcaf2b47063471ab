//! Pages of lists.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{Fields, Outcome};

/// The largest page.
const SIZE_MAX: u32 = 100;
const SIZE_DEFAULT: u32 = 20;

/// Which page is asked for.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// From 1.
    #[param(minimum = 1, default = 1)]
    page: Option<u32>,
    /// From 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 20)]
    page_size: Option<u32>,
}

/// A checked page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    page: u32,
    size: u32,
}

impl PageQuery {
    /// 400 for what is out of range: a client that asks for 1000 must not believe that it saw everything.
    pub(super) fn window(self) -> Outcome<Window> {
        let (page, size) = (self.page.unwrap_or(1), self.page_size.unwrap_or(SIZE_DEFAULT));
        let mut fields = Fields::new();
        fields.require(page >= 1, "page", "must be at least 1");
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
