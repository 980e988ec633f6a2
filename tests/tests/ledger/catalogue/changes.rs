//! Tests that each kind of row change is in the change log, under the key of the row that a replica
//! holds.

use bridge_protocol::domain::catalogue::{Code, EntityKey, EntityKind};
use bridge_protocol::wire::catalogue::StockRow;
use prost::Message;

use super::source::{Replica, SHOP, Source, brands, changed};
use crate::database::Database;
use crate::shop::{Shop, commit_one, is_placed};

/// An upsert as the importer writes it.
const UPSERT: &str = "INSERT INTO skus (brand, sku, price, product) VALUES ('acme', 'V', 2, 'ROAD')
    ON CONFLICT (brand, sku) DO UPDATE SET price = excluded.price, product = excluded.product";

/// Statements of a DBA, and the keys whose change a replica must receive.
const STATEMENTS: &[(&str, &[&str])] = &[
    ("INSERT INTO brands (brand, currency) VALUES ('gamma', 'KRW')", &["Brand gamma/gamma"]),
    ("UPDATE brands SET brand = 'delta' WHERE brand = 'gamma'", &["Brand delta/delta", "Brand gamma/gamma"]),
    ("DELETE FROM brands WHERE brand = 'delta'", &["Brand delta/delta"]),
    // A product's row contains the currency of its prices.
    ("UPDATE brands SET currency = 'JPY' WHERE brand = 'beta'", &["Brand beta/beta", "Product beta/MUG"]),
    ("INSERT INTO categories (brand, category, names) VALUES ('acme', 'new', '{}')", &["Category acme/new"]),
    ("UPDATE categories SET position = 7 WHERE category = 'new'", &["Category acme/new"]),
    ("UPDATE categories SET parent = 'men' WHERE category = 'new'", &["Category acme/new"]),
    // The category's children and products contain its name.
    (
        "UPDATE categories SET category = 'footwear' WHERE category = 'shoes'",
        &[
            "Category acme/footwear",
            "Category acme/men",
            "Category acme/shoes",
            "Product acme/ROAD",
            "Product acme/TRAIL",
        ],
    ),
    ("DELETE FROM categories WHERE category = 'new'", &["Category acme/new"]),
    (
        "INSERT INTO products (brand, product, names) VALUES ('acme', 'A', '{}'), ('acme', 'B', '{}')",
        &["Product acme/A", "Product acme/B"],
    ),
    ("UPDATE products SET document = '{\"a\": 1}' WHERE product = 'A'", &["Product acme/A"]),
    ("UPDATE products SET product = 'C' WHERE product = 'B'", &["Product acme/B", "Product acme/C"]),
    ("UPDATE products SET names = names WHERE false", &[]),
    (
        "INSERT INTO product_categories (brand, product, category) VALUES ('acme', 'A', 'men')",
        &["Product acme/A"],
    ),
    (
        "UPDATE product_categories SET product = 'C' WHERE product = 'A'",
        &["Product acme/A", "Product acme/C"],
    ),
    ("UPDATE product_categories SET category = 'footwear' WHERE product = 'C'", &["Product acme/C"]),
    ("DELETE FROM product_categories WHERE product = 'C'", &["Product acme/C"]),
    (
        "INSERT INTO product_categories (brand, product, category) VALUES ('acme', 'C', 'men')",
        &["Product acme/C"],
    ),
    ("DELETE FROM products WHERE product = 'C'", &["Product acme/C"]),
    ("DELETE FROM categories WHERE category = 'men'", &["Category acme/men", "Product acme/TRAIL"]),
    ("INSERT INTO skus (brand, sku, price) VALUES ('acme', 'X', 1)", &[]),
    ("INSERT INTO skus (brand, sku, price, product) VALUES ('acme', 'Y', 1, 'A')", &["Product acme/A"]),
    ("UPDATE skus SET price = 2 WHERE sku = 'Y'", &["Product acme/A"]),
    ("UPDATE skus SET options = '{\"size\": \"M\"}' WHERE sku = 'Y'", &["Product acme/A"]),
    ("UPDATE skus SET position = 3 WHERE sku = 'Y'", &["Product acme/A"]),
    ("UPDATE skus SET product = 'ROAD' WHERE sku = 'Y'", &["Product acme/A", "Product acme/ROAD"]),
    (
        "INSERT INTO stock (sku_id, initial, available, sold) SELECT sku_id, 5, 5, 0 FROM skus WHERE sku IN ('X', 'Y')",
        &["Stock acme/X", "Stock acme/Y"],
    ),
    (
        "UPDATE stock SET available = 4, initial = 4 WHERE sku_id = (SELECT sku_id FROM skus WHERE sku = 'X')",
        &["Stock acme/X"],
    ),
    ("UPDATE skus SET sku = 'Z' WHERE sku = 'Y'", &["Product acme/ROAD", "Stock acme/Y", "Stock acme/Z"]),
    (
        "UPDATE skus SET brand = 'beta' WHERE sku = 'Z'",
        &["Product acme/ROAD", "Product beta/ROAD", "Stock acme/Z", "Stock beta/Z"],
    ),
    ("DELETE FROM stock WHERE sku_id = (SELECT sku_id FROM skus WHERE sku = 'X')", &["Stock acme/X"]),
    ("DELETE FROM skus WHERE sku = 'X'", &["Stock acme/X"]),
    (
        "BEGIN; DELETE FROM stock; DELETE FROM skus; COMMIT",
        &[
            "Product acme/TRAIL",
            "Product beta/MUG",
            "Product beta/ROAD",
            "Stock acme/LACES",
            "Stock acme/TRAIL-270",
            "Stock acme/TRAIL-280",
            "Stock beta/MUG",
            "Stock beta/Z",
        ],
    ),
];

/// Statements that only PostgreSQL understands.
const POSTGRES: &[(&str, &[&str])] = &[
    ("INSERT INTO skus (brand, sku, price, product) VALUES ('acme', 'V', 1, 'A')", &["Product acme/A"]),
    (UPSERT, &["Product acme/A", "Product acme/ROAD"]),
    ("UPDATE skus SET sku_id = DEFAULT WHERE sku = 'V'", &["Product acme/ROAD", "Stock acme/V"]),
    (
        "WITH gone AS (DELETE FROM stock RETURNING sku_id) DELETE FROM skus",
        &["Product acme/ROAD", "Stock acme/V"],
    ),
    (
        "COPY products (brand, product, names) FROM PROGRAM 'printf ''acme\\tCOPIED\\t{}\\n'''",
        &["Product acme/COPIED"],
    ),
    ("TRUNCATE product_categories", &["Product acme/ROAD", "Product acme/TRAIL"]),
    (
        "TRUNCATE products CASCADE",
        &[
            "Product acme/A",
            "Product acme/COPIED",
            "Product acme/ROAD",
            "Product acme/TRAIL",
            "Product beta/MUG",
        ],
    ),
    ("TRUNCATE categories CASCADE", &["Category acme/footwear"]),
    ("TRUNCATE brands CASCADE", &["Brand acme/acme", "Brand beta/beta"]),
];

/// Statements that only SQLite understands. A replaced row is removed without its own trigger. So
/// an insert that may replace a row logs the stock of that SKU as well.
const SQLITE: &[(&str, &[&str])] = &[
    ("INSERT INTO skus (brand, sku, price, product) VALUES ('acme', 'V', 1, 'A')", &["Product acme/A"]),
    (UPSERT, &["Product acme/A", "Product acme/ROAD", "Stock acme/V"]),
    (
        "INSERT OR REPLACE INTO skus (brand, sku, price, product) VALUES ('acme', 'V', 1, 'A')",
        &["Product acme/A", "Product acme/ROAD", "Stock acme/V"],
    ),
    (
        "INSERT INTO skus (brand, sku, price, product) VALUES ('acme', 'W', 1, 'TRAIL')",
        &["Product acme/TRAIL"],
    ),
    (
        "UPDATE OR REPLACE skus SET sku = 'V' WHERE sku = 'W'",
        &["Product acme/A", "Product acme/TRAIL", "Stock acme/V", "Stock acme/W"],
    ),
    ("REPLACE INTO products (brand, product, names) VALUES ('acme', 'ROAD', '{}')", &["Product acme/ROAD"]),
    ("DELETE FROM product_categories", &["Product acme/TRAIL"]),
];

pub(crate) async fn every_change_by_plain_sql_is_in_the_log_under_its_key(database: &Database) {
    let brands = brands(&["acme", "beta", "gamma", "delta"]);
    let mut source = Source::of(&database.ledger);
    database.run(SHOP, SHOP).await;
    let mut position = source.settled().await;
    let mut replica = Replica::bootstrap(&source.catalogue, &brands, 100).await;
    let of_this_kind = match database.url() {
        bridge_idc::config::LedgerUrl::Postgres(_) => POSTGRES,
        bridge_idc::config::LedgerUrl::Sqlite(_) => SQLITE,
    };
    for (sql, keys) in STATEMENTS.iter().chain(of_this_kind) {
        database.run(sql, sql).await;
        let now = source.settled().await;
        assert_eq!(changed(&source.catalogue, &brands, position).await, *keys, "{sql}");
        replica.reach(&source.catalogue, now).await;
        replica.assert_equals(&source.catalogue).await;
        position = now;
    }
}

pub(crate) async fn what_is_rolled_back_leaves_nothing(database: &Database) {
    let mut source = Source::of(&database.ledger);
    database.run(SHOP, SHOP).await;
    let position = source.settled().await;
    let sql = "BEGIN; UPDATE products SET names = '{}'; DELETE FROM stock; ROLLBACK";
    database.run(sql, sql).await;
    assert_eq!(source.settled().await, position);
    assert_eq!(database.count("SELECT count(*) FROM catalogue_pending").await, 0);
}

pub(crate) async fn a_committed_order_puts_its_stock_on_the_log(database: &Database) {
    let ledger = &database.ledger;
    let mut source = Source::of(ledger);
    let shop = Shop::open(ledger, "acme", &[("A", 5), ("B", 5)]).await;
    let brands = [shop.brand.clone()];
    let before = source.settled().await;
    let order = shop.place("k", &[("A", 2)]);
    assert!(is_placed(&commit_one(ledger, order.clone()).await));
    let after = source.settled().await;
    let (rows, position) = source.catalogue.changes(&brands, before, 100).await.unwrap().unwrap();
    assert_eq!((rows.len(), position), (1, after));
    let key = EntityKey { kind: EntityKind::Stock, brand: shop.brand.clone(), code: Code::new("A").unwrap() };
    assert_eq!(rows[0].key, key);
    let row = StockRow::decode(rows[0].row.clone().unwrap()).unwrap();
    assert_eq!(row, StockRow { available: 3 });

    commit_one(ledger, shop.cancel("c", crate::shop::order_of(&order))).await;
    source.settled().await;
    let (rows, _) = source.catalogue.changes(&brands, after, 100).await.unwrap().unwrap();
    let row = StockRow::decode(rows[0].row.clone().unwrap()).unwrap();
    assert_eq!((rows.len(), row), (1, StockRow { available: 5 }));
}

pub(crate) async fn one_key_changed_many_times_is_one_row_with_its_last_state(database: &Database) {
    let brands = brands(&["acme"]);
    let mut source = Source::of(&database.ledger);
    database.run(SHOP, SHOP).await;
    let before = source.settled().await;
    let many: String = (0..50)
        .map(|n| format!("UPDATE stock SET available = {n}, initial = {n} WHERE sku_id = 1;"))
        .collect();
    database.run(&many, &many).await;
    let after = source.settled().await;
    assert!(after.seq - before.seq <= 50);
    let (rows, position) = source.catalogue.changes(&brands, before, 1_000).await.unwrap().unwrap();
    assert_eq!((rows.len(), position), (1, after));
    let row = StockRow::decode(rows[0].row.clone().unwrap()).unwrap();
    assert_eq!(row, StockRow { available: 49 });
    // A reader of only some changes also gets the last state, never an older one than the number.
    if after.seq - before.seq > 1 {
        let (rows, position) = source.catalogue.changes(&brands, before, 1).await.unwrap().unwrap();
        assert_eq!(position.seq, before.seq + 1);
        assert_eq!(StockRow::decode(rows[0].row.clone().unwrap()).unwrap(), StockRow { available: 49 });
    }
}
