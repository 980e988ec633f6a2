//! Passes rows to PostgreSQL as one array for each column, for `UNNEST`.

/// Returns the array of one column.
pub(crate) fn column<'a, R, V>(rows: &'a [R], value: impl Fn(&'a R) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}
