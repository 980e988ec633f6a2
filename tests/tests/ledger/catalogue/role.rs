//! Tests that the rights of `role.sql` suffice to publish and import the catalogue, and allow
//! nothing more.

use std::collections::BTreeSet;
use std::error::Error as _;

use bridge_idc::catalogue::columns::{ALLOWED, Column};
use bridge_idc::catalogue::import::{CatalogueFile, Options};
use bridge_idc::config::LedgerUrl;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::source::{Replica, SHOP, Source, brands};
use crate::database::{ROLES, connect, postgres};

const ROLE_SQL: &str = include_str!("../../../../bridge-idc/src/database/postgres/role.sql");

#[tokio::test]
async fn the_agent_reads_allowed_columns_numbers_changes_and_nothing_else() {
    let database = postgres("role").await;
    let LedgerUrl::Postgres(owner) = database.url() else { unreachable!() };
    let making_roles = ROLES.lock().await;
    database.run(ROLE_SQL, "").await;
    let mut urls = Vec::new();
    for role in ["serve", "catalogue"] {
        let login = format!("CREATE ROLE catalogue_{role} LOGIN PASSWORD 'secret' IN ROLE bridge_{role}");
        database.run(&login, "").await;
        urls.push(format!("postgres://catalogue_{role}:secret@{}", owner.split_once('@').unwrap().1));
    }
    drop(making_roles);
    let [serve, import] = [&urls[0], &urls[1]];

    let mut source = Source::of(&connect(&LedgerUrl::Postgres(serve.clone())).await);
    let mut importer = PgConnection::connect(import).await.unwrap();
    for sql in SHOP.split(';').filter(|sql| !sql.trim().is_empty()) {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut importer).await.unwrap();
    }
    let upsert = "INSERT INTO products (brand, product, names) VALUES ('acme', 'ROAD', '{}') \
        ON CONFLICT (brand, product) DO UPDATE SET names = excluded.names";
    sqlx::query(upsert).execute(&mut importer).await.unwrap();
    sqlx::query("DELETE FROM product_categories WHERE product = 'ROAD'")
        .execute(&mut importer)
        .await
        .unwrap();
    let position = source.settled().await;
    assert!(position.seq >= 11, "a writer of rows needs no right on the change log");
    let mut replica = Replica::bootstrap(&source.catalogue, &brands(&["acme", "beta"]), 3).await;
    assert_eq!(replica.rows.len(), 11);
    let sql = "UPDATE skus SET price = 1, options = '{}', position = 1 WHERE brand = 'beta'";
    sqlx::query(sql).execute(&mut importer).await.unwrap();
    let position = source.settled().await;
    replica.reach(&source.catalogue, position).await;
    replica.assert_equals(&source.catalogue).await;
    let mut agent = PgConnection::connect(serve).await.unwrap();
    sqlx::query("SELECT catalogue_forget(1000, 1000000, 10)").execute(&mut agent).await.unwrap();

    for (login, sql) in [
        (serve, "INSERT INTO catalogue_changes VALUES (99, 1, 1, 'acme', 'acme')"),
        (serve, "DELETE FROM catalogue_changes"),
        (serve, "DELETE FROM catalogue_pending"),
        (serve, "INSERT INTO catalogue_pending (kind, brand, code) VALUES (1, 'acme', 'acme')"),
        (serve, "UPDATE catalogue_sequencer SET last_seq = 0"),
        (serve, "UPDATE products SET names = '{}'"),
        (serve, "INSERT INTO categories (brand, category, names) VALUES ('acme', 'x', '{}')"),
        (serve, "DELETE FROM product_categories"),
        (serve, "UPDATE skus SET price = 0"),
        (import, "SELECT * FROM orders"),
        (import, "SELECT * FROM order_personal"),
        (import, "SELECT * FROM catalogue_changes"),
        (import, "SELECT catalogue_sequence('me', 1000, 10)"),
        (import, "SELECT catalogue_forget(1, 1, 1)"),
        (import, "DELETE FROM products"),
        (import, "UPDATE stock SET sold = 0"),
        (import, "UPDATE brands SET currency = 'USD'"),
    ] {
        let mut connection = PgConnection::connect(login).await.unwrap();
        let error = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap_err();
        let state = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(state.as_deref(), Some("42501"), "{sql}: {error}");
    }

    // A user who imports with the agent's login learns that a right is missing. The message does
    // not call the database unavailable.
    let file = CatalogueFile::json_lines(br#"{"brand": "new", "currency": "KRW"}"#.as_slice());
    let error = source.catalogue.import(file, Options::default(), |_| ()).await.unwrap_err();
    let told = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(told.contains("permission denied for ") && told.contains("role.sql"), "{error}: {told}");

    // A DBA adds a column. The agent cannot read it and publishes it in no row until both lists
    // name it.
    let add = "ALTER TABLE products ADD COLUMN supplier_price bigint DEFAULT 1; \
               ALTER TABLE categories ADD COLUMN margin bigint DEFAULT 1";
    database.run(add, "").await;
    let granted: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name IN ('categories', 'products', 'product_categories') \
         AND has_column_privilege('bridge_serve', table_name::regclass, column_name, 'SELECT')",
    )
    .fetch_all(&mut PgConnection::connect(owner).await.unwrap())
    .await
    .unwrap();
    let granted: BTreeSet<(&str, &str)> =
        granted.iter().map(|(table, column)| (table.as_str(), column.as_str())).collect();
    let own = ALLOWED.iter().filter(|part| !["brands", "skus", "stock"].contains(&part.table));
    let mut allowed: BTreeSet<(&str, &str)> =
        own.flat_map(|part| part.columns.iter().map(Column::name).map(|name| (part.table, name))).collect();
    // The join with product_categories needs these columns.
    allowed.extend([("product_categories", "brand"), ("product_categories", "product")]);
    assert_eq!(granted, allowed);
    replica.assert_equals(&source.catalogue).await;
}
