//! Rows as PostgreSQL takes them: a column of them as an array, for `UNNEST`.

/// One array: a column of the rows.
pub(crate) fn column<'a, R, V>(rows: &'a [R], value: impl Fn(&'a R) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}
