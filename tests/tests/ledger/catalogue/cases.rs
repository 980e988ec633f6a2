//! Cases about the catalogue's source on either database: pages, sums, leases, pruning of the
//! change log, and a restore from a backup.

use std::time::Duration;

use bridge_idc::catalogue::Catalogue;
use bridge_idc::catalogue::sequencer::ChangeLogLimits;
use bridge_idc::config::LedgerUrl;
use bridge_protocol::domain::catalogue::{Code, EntityKey, EntityKind, Position};
use bridge_protocol::feed::sums;
use bridge_protocol::wire::catalogue::{BrandRow, CategoryRow, ProductRow, StockRow};
use prost::Message;
use tokio::time::{Instant, sleep};

use super::source::{PATIENCE, Replica, SHOP, Source, brands, changed, read};
use crate::database::Database;

fn key(kind: EntityKind, code: &str) -> EntityKey {
    EntityKey { kind, brand: brands(&["acme"]).remove(0), code: Code::new(code).unwrap() }
}

pub(crate) async fn rows_say_what_the_tables_say(database: &Database) {
    database.run(SHOP, SHOP).await;
    let catalogue = Catalogue::of(&database.ledger);
    let replica = Replica::bootstrap(&catalogue, &brands(&["acme"]), 100).await;
    let row = |kind, code| replica.rows[&key(kind, code)].clone();

    let brand = BrandRow::decode(row(EntityKind::Brand, "acme")).unwrap();
    assert_eq!(brand.currency, "KRW");
    let men = CategoryRow::decode(row(EntityKind::Category, "men")).unwrap();
    assert_eq!(men.parent.as_deref(), Some("shoes"));
    let shoes = CategoryRow::decode(row(EntityKind::Category, "shoes")).unwrap();
    let names: Vec<_> = shoes.names.iter().map(|name| (name.locale.as_str(), name.text.as_str())).collect();
    assert_eq!((shoes.parent, shoes.position, names), (None, 1, vec![("en", "Shoes"), ("ko", "신발")]));

    let trail = ProductRow::decode(row(EntityKind::Product, "TRAIL")).unwrap();
    assert_eq!(trail.names[1].text, "트레일화");
    assert_eq!(trail.descriptions[0].text, "Grips.");
    assert_eq!(trail.document, r#"{"weight_g": 310}"#);
    assert_eq!(trail.images, ["https://img/1.jpg", "https://img/2.jpg"]);
    assert_eq!(trail.categories, ["men", "shoes"]);
    assert_eq!(trail.published_from_micros, Some(1_700_000_000_000_000));
    assert_eq!((trail.published_until_micros, trail.currency.as_str()), (None, "KRW"));
    let variants: Vec<_> = trail.variants.iter().map(|one| (one.sku.as_str(), one.price)).collect();
    assert_eq!(variants, [("TRAIL-270", 219_000), ("TRAIL-280", 219_000)], "by position, then SKU");
    let options: Vec<_> = trail.variants[0].options.iter().map(|one| one.value.as_str()).collect();
    assert_eq!(options, ["black", "270"], "by name");
    let road = ProductRow::decode(row(EntityKind::Product, "ROAD")).unwrap();
    assert!(road.document.is_empty() && road.variants.is_empty() && road.images.is_empty());

    let laces = StockRow::decode(row(EntityKind::Stock, "LACES")).unwrap();
    assert_eq!(laces.available, 10, "a SKU without a product has no stock");
}

pub(crate) async fn pages_of_any_size_hold_the_same_rows_in_key_order(database: &Database) {
    database.run(SHOP, SHOP).await;
    let catalogue = Catalogue::of(&database.ledger);
    let brands = brands(&["beta", "acme", "nobody"]);
    let whole = read(&catalogue, &brands, 1_000).await;
    assert!(whole.is_sorted_by(|one, next| one.key < next.key));
    let keys: Vec<String> = whole.iter().map(|row| row.key.to_string()).collect();
    assert_eq!(
        keys,
        [
            "Brand acme/acme",
            "Brand beta/beta",
            "Category acme/men",
            "Category acme/shoes",
            "Product acme/ROAD",
            "Product acme/TRAIL",
            "Product beta/MUG",
            "Stock acme/LACES",
            "Stock acme/TRAIL-270",
            "Stock acme/TRAIL-280",
            "Stock beta/MUG",
        ]
    );
    for rows_max in 1..whole.len() + 2 {
        assert_eq!(read(&catalogue, &brands, rows_max).await, whole, "{rows_max} rows a page");
    }
}

pub(crate) async fn brands_that_are_not_asked_for_are_not_read(database: &Database) {
    let mut source = Source::of(&database.ledger);
    let empty = source.settled().await;
    assert_eq!(empty, Position::default());
    database.run(SHOP, SHOP).await;
    let position = source.settled().await;
    let beta = brands(&["beta"]);
    let keys: Vec<String> =
        read(&source.catalogue, &beta, 100).await.iter().map(|row| row.key.to_string()).collect();
    assert_eq!(keys, ["Brand beta/beta", "Product beta/MUG", "Stock beta/MUG"]);
    assert_eq!(changed(&source.catalogue, &beta, empty).await, keys);
    let (rows, all) = source.catalogue.changes(&brands(&["nobody"]), empty, 1_000).await.unwrap().unwrap();
    assert!(rows.is_empty() && all == position, "a reader of other brands moves past the changes");
}

pub(crate) async fn sums_of_the_source_are_the_sums_of_its_pages(database: &Database) {
    let mut source = Source::of(&database.ledger);
    let values: Vec<String> =
        (0..2_500).map(|n| format!("('acme', 'P{n}', '{{\"en\": \"{n}\"}}')")).collect();
    let products =
        format!("{SHOP}; INSERT INTO products (brand, product, names) VALUES {}", values.join(","));
    database.run(&products, &products).await;
    let position = source.settled().await;
    let brands = brands(&["acme"]);
    let replica = Replica::bootstrap(&source.catalogue, &brands, 99).await;
    assert_eq!(replica.rows.len(), 2_508);
    let (head, sums, unsettled) = source.catalogue.sums(&brands).await.unwrap();
    assert_eq!((head, sums, unsettled), (position, replica.sums(), vec![]));
}

pub(crate) async fn a_change_without_a_number_makes_its_bucket_unsettled(database: &Database) {
    database.run(SHOP, SHOP).await;
    let source = Source::of(&database.ledger);
    let mut source = source;
    source.settled().await;
    let catalogue = source.catalogue.clone();
    source.stop().await;
    let sql = "UPDATE products SET images = '[\"https://img/3.jpg\"]' WHERE product = 'ROAD'; \
               UPDATE skus SET price = 1 WHERE sku = 'MUG'";
    database.run(sql, sql).await;
    let (_, _, unsettled) = catalogue.sums(&brands(&["acme"])).await.unwrap();
    let bucket = sums::bucket(&key(EntityKind::Product, "ROAD"));
    assert_eq!(
        unsettled,
        [u32::try_from(bucket).unwrap()],
        "only buckets of the requested brands are unsettled"
    );
}

/// Makes `count` changes, each in its own statement and transaction.
async fn write(database: &Database, from: i64, count: i64) {
    for n in from..from + count {
        let sql = format!("UPDATE stock SET available = {n}, initial = {n} WHERE sku_id = {}", n % 4 + 1);
        database.run(&sql, &sql).await;
    }
}

pub(crate) async fn two_sequencers_number_densely_and_one_takes_over_when_the_other_dies(
    database: &Database,
) {
    let brands = brands(&["acme", "beta"]);
    let second_agent = database.second_agent().await;
    let mut first = Source::of(&database.ledger);
    first.settled().await;
    let mut second = Source::of(&second_agent);
    database.run(SHOP, SHOP).await;
    let mut replica = Replica::bootstrap(&second.catalogue, &brands, 100).await;
    tokio::join!(write(database, 0, 40), write(database, 100, 40));
    // Both sequencers report the same position, whichever gave the numbers.
    let (one, other) = (first.settled().await, second.settled().await);
    assert_eq!(one, other);

    let holder = "SELECT count(*) FROM catalogue_sequencer WHERE holder <> ''";
    assert_eq!(database.count(holder).await, 1);
    first.kill().await;
    write(database, 200, 20).await;
    let position = second.settled().await;
    assert!(position.seq > other.seq);
    tokio::join!(write(database, 300, 20), second_write(&mut second));
    let position = second.settled().await;
    let dense = "SELECT count(*) - max(seq) + min(seq) - 1 FROM catalogue_changes";
    assert_eq!(database.count(dense).await, 0);
    let count = i64::try_from(position.seq).unwrap();
    assert_eq!(database.count("SELECT count(*) FROM catalogue_changes").await, count);
    let backwards = "SELECT count(*) FROM catalogue_changes AS one \
         JOIN catalogue_changes AS next ON next.seq = one.seq + 1 WHERE next.mark < one.mark";
    assert_eq!(database.count(backwards).await, 0, "a later number has an earlier time");
    replica.reach(&second.catalogue, position).await;
    replica.assert_equals(&second.catalogue).await;
}

async fn second_write(source: &mut Source) {
    for _ in 0..5 {
        source.settled().await;
    }
}

pub(crate) async fn a_sequencer_that_ends_in_order_gives_its_lease_back(database: &Database) {
    let mut first = Source::of(&database.ledger);
    first.settled().await;
    let held = "SELECT count(*) FROM catalogue_sequencer WHERE expires_at > swept_at + 1000000";
    assert_eq!(database.count(held).await, 1);
    first.stop().await;
    assert_eq!(database.count(held).await, 0, "the lease still has a holder");
    let mut second = Source::of(&database.second_agent().await);
    database.run(SHOP, SHOP).await;
    assert!(second.settled().await.seq > 0);
}

pub(crate) async fn a_lease_from_before_the_clock_was_set_back_holds_up_nobody(database: &Database) {
    let sql = "UPDATE catalogue_sequencer SET holder = 'another', expires_at = 9000000000000000";
    database.run(sql, sql).await;
    let mut source = Source::of(&database.ledger);
    database.run(SHOP, SHOP).await;
    assert!(source.settled().await.seq > 0);
}

async fn wait_for_count(database: &Database, sql: &'static str, count: i64) {
    let deadline = Instant::now() + PATIENCE;
    while database.count(sql).await != count {
        assert!(Instant::now() < deadline, "{sql} is not {count}");
        sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn the_log_forgets_by_rows(database: &Database) {
    let brands = brands(&["acme"]);
    let limits = ChangeLogLimits { changes_kept: 3, ..ChangeLogLimits::default() };
    let mut source = Source::with_limits(&database.ledger, limits);
    let empty = source.settled().await;
    database.run(SHOP, SHOP).await;
    let newest = source.settled().await;
    wait_for_count(database, "SELECT count(*) FROM catalogue_changes", 3).await;
    let lost = source.catalogue.changes(&brands, empty, 100).await.unwrap();
    assert!(lost.is_none(), "the reader's position was not pruned");
    let (rows, position) = source.catalogue.changes(&brands, newest, 100).await.unwrap().unwrap();
    assert!(rows.is_empty() && position == newest, "a reader at the newest position may stay there");
    write(database, 5, 1).await;
    let next = source.settled().await;
    assert_eq!(next.seq, newest.seq + 1, "numbers continue after the pruning");
    assert!(source.catalogue.changes(&brands, newest, 100).await.unwrap().is_some());
}

pub(crate) async fn the_log_forgets_by_age_and_keeps_the_newest(database: &Database) {
    let limits = ChangeLogLimits { changes_kept_for: Duration::ZERO, ..ChangeLogLimits::default() };
    let mut source = Source::with_limits(&database.ledger, limits);
    database.run(SHOP, SHOP).await;
    let newest = source.settled().await;
    wait_for_count(database, "SELECT count(*) FROM catalogue_changes", 1).await;
    assert_eq!(database.count("SELECT max(seq) FROM catalogue_changes").await, newest.seq.cast_signed());
    assert!(source.catalogue.changes(&brands(&["acme"]), newest, 100).await.unwrap().is_some());
}

pub(crate) async fn a_restored_backup_is_noticed_by_the_mark(database: &Database) {
    let brands = brands(&["acme"]);
    let mut source = Source::of(&database.ledger);
    database.run(SHOP, SHOP).await;
    let backup = source.settled().await;
    let sql = "UPDATE skus SET price = 5 WHERE sku = 'TRAIL-270'";
    database.run(sql, sql).await;
    let lost = source.settled().await;
    assert_eq!(lost.seq, backup.seq + 1);
    source.stop().await;

    // These statements leave the tables as a restore does, with the rows of the backup and with the
    // log's end at that time.
    let Position { seq, mark } = backup;
    let restore = format!(
        "UPDATE skus SET price = 219000 WHERE sku = 'TRAIL-270'; DELETE FROM catalogue_pending; \
         DELETE FROM catalogue_changes WHERE seq > {seq}; \
         UPDATE catalogue_sequencer SET last_seq = {seq}, last_mark = {mark}"
    );
    database.run(&restore, &restore).await;
    let mut source = Source::of(&database.ledger);
    assert_eq!(source.settled().await, backup);
    let ahead = source.catalogue.changes(&brands, lost, 100).await.unwrap();
    assert!(ahead.is_none(), "a replica that is ahead of the source must start anew");
    let sql = "UPDATE skus SET price = 6 WHERE sku = 'TRAIL-280'";
    database.run(sql, sql).await;
    let other = source.settled().await;
    assert_eq!(other.seq, lost.seq, "the same number is given again");
    assert_ne!(other.mark, lost.mark, "the mark tells the two apart");
    assert!(source.catalogue.changes(&brands, lost, 100).await.unwrap().is_none());
    assert!(source.catalogue.changes(&brands, backup, 100).await.unwrap().is_some());
}

/// SQLite cannot check the JSON of a row, so it accepts this one. PostgreSQL refuses it.
#[tokio::test]
async fn an_unreadable_row_is_published_as_gone_until_it_is_readable() {
    let database = crate::database::sqlite().await;
    assert!(matches!(database.url(), LedgerUrl::Sqlite(_)));
    let brands = brands(&["acme"]);
    let mut source = Source::of(&database.ledger);
    database.run("", SHOP).await;
    let position = source.settled().await;
    let mut replica = Replica::bootstrap(&source.catalogue, &brands, 100).await;
    assert!(replica.rows.contains_key(&key(EntityKind::Product, "ROAD")));
    database.run("", "UPDATE products SET names = '{\"en\": 7}' WHERE product = 'ROAD'").await;
    let bad = source.settled().await;
    replica.reach(&source.catalogue, bad).await;
    assert!(!replica.rows.contains_key(&key(EntityKind::Product, "ROAD")));
    assert_eq!(source.catalogue.unreadable(), 1);
    replica.assert_equals(&source.catalogue).await;
    database.run("", "UPDATE products SET names = '{\"en\": \"7\"}' WHERE product = 'ROAD'").await;
    let good = source.settled().await;
    replica.reach(&source.catalogue, good).await;
    assert!(replica.rows.contains_key(&key(EntityKind::Product, "ROAD")));
    assert_eq!((source.catalogue.unreadable(), good.seq), (0, position.seq + 2));
}
