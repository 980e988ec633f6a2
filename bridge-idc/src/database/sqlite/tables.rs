//! Passes rows to SQLite as one JSON text, `[[..], [..]]`, for `json_each`.

use serde::Serialize;

/// Returns the JSON text of these columns of the rows.
pub(crate) fn table<'a, R, V: Serialize>(
    rows: &'a [R],
    columns: impl Fn(&'a R) -> V,
) -> sqlx::Result<String> {
    json(&rows.iter().map(columns).collect::<Vec<_>>())
}

/// Returns the JSON text of a value.
pub(crate) fn json<V: Serialize + ?Sized>(value: &V) -> sqlx::Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}
