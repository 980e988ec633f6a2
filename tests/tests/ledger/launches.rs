//! Launches: opening times and limits that the ledger enforces in the transaction of an order, on
//! either database.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bridge_idc::config::LedgerUrl;
use bridge_idc::launches::{
    self, AddResult, EndResult, LaunchDraft, LaunchMistake, LaunchName, LaunchSku, LaunchState, NewLaunch,
};
use bridge_idc::orders::planner::{Awaited, Request};
use bridge_idc::orders::store::{Ledger, RequestEnd};
use bridge_protocol::domain::outcome::LaunchRefusal;
use bridge_protocol::domain::{Brand, OrderId, Outcome, Sku, UnixMicros};
use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::database::{Database, ROLES, connect, postgres};
use crate::held::{psql, until_one_waits};
use crate::role::ROLE_SQL;
use crate::shop::{Shop, answers, batch, commit, commit_one, is_placed, order_of, settled, sold_out};

/// Microseconds of an hour.
pub(crate) const HOUR: i64 = 3_600_000_000;

/// Adds a launch with SQL, as a DBA does. It opens so many microseconds from now on.
pub(crate) async fn launch(database: &Database, opens_in: i64, columns: &str, values: &str, skus: &[&str]) {
    let skus: Vec<String> = skus.iter().map(|sku| format!("'{sku}'")).collect();
    let skus = skus.join(", ");
    let add = |now: &str| {
        format!(
            "INSERT INTO launches (brand, launch, opens_at, {columns}) VALUES ('acme', 'air', {now} + {opens_in}, {values}); \
             INSERT INTO launch_skus (launch_id, sku_id) \
             SELECT launch_id, sku_id FROM launches JOIN skus USING (brand) WHERE launch = 'air' AND sku IN ({skus})"
        )
    };
    database.run(&add(POSTGRES_NOW), &add(SQLITE_NOW)).await;
}

const POSTGRES_NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)";
const SQLITE_NOW: &str = "CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)";

/// Runs a DBA's statement that is the same on both databases.
async fn sql(database: &Database, sql: &str) {
    database.run(sql, sql).await;
}

fn limit_reached(sku: &str, limit: i64, bought: i64) -> Outcome {
    let reason = LaunchRefusal::LimitReached { limit, bought };
    Outcome::RefusedByLaunch { sku: Sku::new(sku).unwrap(), reason }
}

/// Checks that the numbers of launches and customers are those of the orders that stand.
async fn balanced(database: &Database) {
    let wrong = "SELECT count(*) FROM launch_sales WHERE sold <> (SELECT coalesce(sum(units), 0) FROM launch_purchases \
         WHERE launch_purchases.launch_id = launch_sales.launch_id AND given_back_at IS NULL)";
    assert_eq!(database.count(wrong).await, 0, "units of launches");
    let wrong = "SELECT count(*) FROM launch_purchases JOIN orders USING (order_id) \
         WHERE (given_back_at IS NULL) <> (state = 'placed')";
    assert_eq!(database.count(wrong).await, 0, "cancelled orders");
}

pub(crate) async fn nothing_is_sold_before_the_opening_by_the_databases_clock(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10), ("B", 10)]).await;
    launch(database, HOUR, "customer_limit", "1", &["A"]).await;
    let early = shop.place("early", &[("B", 1), ("A", 1)]);
    let outcome = settled(&commit_one(ledger, early.clone()).await).0;
    let Outcome::RefusedByLaunch { sku, reason: LaunchRefusal::NotOpen { opens_at } } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(sku.as_str(), "A");
    assert_eq!(opens_at.get(), database.count("SELECT opens_at FROM launches").await);
    assert_eq!((shop.stock(ledger, "A").await, shop.stock(ledger, "B").await), ((10, 0), (10, 0)));
    assert!(is_placed(&commit_one(ledger, shop.place("b", &[("B", 1)])).await), "B is of no launch");

    sql(database, "UPDATE launches SET opens_at = 1700000000000000").await;
    let (again, replayed) = settled(&commit_one(ledger, early.clone()).await);
    assert_eq!((again.code(), replayed), ("launch-not-open", true), "the key keeps its outcome");
    assert!(is_placed(&commit_one(ledger, shop.place("now", &[("A", 1)])).await));
    let state = ledger.look_up(&shop.brand, order_of(&early), None).await.unwrap().unwrap();
    assert_eq!(state.state, "launch-not-open");
    balanced(database).await;
}

pub(crate) async fn a_customer_gets_no_more_than_the_limit_over_orders_and_skus(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 100), ("B", 100), ("C", 100)]).await;
    launch(database, -HOUR, "customer_limit", "3", &["A", "B"]).await;
    let place = |customer: &str, key: &str, lines: &[(&str, i64)]| shop.place_for(customer, key, lines);
    let told = commit(
        ledger,
        vec![
            place("ann", "1", &[("A", 2)]),
            place("ann", "2", &[("B", 2)]),
            place("bob", "3", &[("A", 3), ("C", 50)]),
            place("ann", "4", &[("B", 1), ("C", 1)]),
        ],
    )
    .await;
    let outcomes: Vec<Outcome> = told.iter().map(|answer| settled(answer).0).collect();
    let reached = limit_reached("B", 3, 2);
    assert_eq!(outcomes, [Outcome::Placed, reached.clone(), Outcome::Placed, Outcome::Placed]);

    let refused = place("ann", "5", &[("C", 1), ("A", 1)]);
    assert_eq!(settled(&commit_one(ledger, refused).await).0, limit_reached("A", 3, 3), "in a later batch");
    let again = place("ann", "2", &[("B", 2)]);
    assert_eq!(settled(&commit_one(ledger, again).await), (reached, true), "every detail is stored");
    assert!(is_placed(&commit_one(ledger, place("ann", "6", &[("C", 9)])).await), "C is of no launch");
    assert_eq!(shop.stock(ledger, "A").await, (95, 5));
    let wanted = place("cat", "7", &[("A", 4)]);
    assert_eq!(settled(&commit_one(ledger, wanted).await).0, limit_reached("A", 3, 0), "all or none");
    balanced(database).await;
}

pub(crate) async fn cancelled_orders_give_units_back_to_customer_and_launch(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 100)]).await;
    let before = shop.place_for("ann", "before", &[("A", 1)]);
    assert!(is_placed(&commit_one(ledger, before.clone()).await), "no launch sells it");
    launch(database, -HOUR, "customer_limit, units", "1, 2", &["A"]).await;
    let bought = shop.place_for("ann", "1", &[("A", 1)]);
    assert!(is_placed(&commit_one(ledger, bought.clone()).await), "what was bought before does not count");
    let other = commit_one(ledger, shop.cancel("c0", order_of(&before))).await;
    assert_eq!(settled(&other).0, Outcome::Cancelled);
    let more = commit_one(ledger, shop.place_for("ann", "2", &[("A", 1)])).await;
    assert_eq!(settled(&more).0, limit_reached("A", 1, 1), "that order was not the launch's");

    // In one batch: cancelled twice, bought again, cancelled and bought by somebody else.
    let again = shop.place_for("ann", "3", &[("A", 1)]);
    let told = commit(
        ledger,
        vec![
            shop.cancel("c1", order_of(&bought)),
            shop.cancel("c2", order_of(&bought)),
            again.clone(),
            shop.place_for("ann", "4", &[("A", 1)]),
            shop.cancel("c3", order_of(&again)),
            shop.place_for("ann", "5", &[("A", 1)]),
            shop.place_for("bob", "6", &[("A", 1)]),
            shop.place_for("cat", "7", &[("A", 1)]),
        ],
    )
    .await;
    let codes: Vec<String> = told.iter().map(|answer| settled(answer).0.code().to_owned()).collect();
    assert_eq!(
        codes,
        ["cancelled", "cancelled", "placed", "limit-reached", "cancelled", "placed", "placed", "sold-out"]
    );
    assert_eq!(settled(&told[7]).0, sold_out("A"), "the launch sells two units in all");
    assert_eq!(shop.stock(ledger, "A").await, (98, 2));
    assert_eq!(database.count("SELECT sold FROM launch_sales").await, 2);
    balanced(database).await;
}

pub(crate) async fn a_launch_that_has_ended_limits_nothing(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 100)]).await;
    launch(database, -HOUR, "customer_limit", "1", &["A"]).await;
    let bought = shop.place_for("ann", "1", &[("A", 1)]);
    assert!(is_placed(&commit_one(ledger, bought.clone()).await));
    assert!(!is_placed(&commit_one(ledger, shop.place_for("ann", "2", &[("A", 1)])).await));
    let name = LaunchName::new("air").unwrap();
    let EndResult::Ended(ended) = launches::end(ledger, &shop.brand, &name).await.unwrap() else { panic!() };
    assert_eq!((ended.state, ended.sold), (LaunchState::Ended, 1));
    assert!(is_placed(&commit_one(ledger, shop.place_for("ann", "3", &[("A", 50)])).await));
    let back = commit_one(ledger, shop.cancel("c", order_of(&bought))).await;
    assert_eq!(settled(&back).0, Outcome::Cancelled);
    let EndResult::EndedBefore(before) = launches::end(ledger, &shop.brand, &name).await.unwrap() else {
        panic!()
    };
    assert_eq!((before.ended_at, before.sold), (ended.ended_at, 0), "and gives back what it had");
    let none = LaunchName::new("none").unwrap();
    assert_eq!(launches::end(ledger, &shop.brand, &none).await.unwrap(), EndResult::Unknown);

    // One that ends by itself, and one that follows it.
    sql(
        database,
        "INSERT INTO launches (brand, launch, opens_at, ends_at, customer_limit) \
        VALUES ('acme', 'past', 1700000000000000, 1700000001000000, 1); \
        INSERT INTO launch_skus (launch_id, sku_id) \
        SELECT launch_id, sku_id FROM launches JOIN skus USING (brand) WHERE launch = 'past'",
    )
    .await;
    assert!(is_placed(&commit_one(ledger, shop.place_for("ann", "4", &[("A", 2)])).await));
    sql(database, "UPDATE launches SET launch = 'first' WHERE launch = 'air'").await;
    launch(database, HOUR, "customer_limit", "1", &["A"]).await;
    let early = commit_one(ledger, shop.place_for("ann", "5", &[("A", 2)])).await;
    assert_eq!(settled(&early).0.code(), "launch-not-open");
    balanced(database).await;
}

pub(crate) async fn a_skus_own_limit_counts_beside_the_launchs(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 100), ("B", 100)]).await;
    launch(database, -HOUR, "customer_limit", "3", &["A", "B"]).await;
    sql(
        database,
        "UPDATE launch_skus SET customer_limit = 1 WHERE sku_id = (SELECT sku_id FROM skus WHERE sku = 'A')",
    )
    .await;
    let told = commit(
        ledger,
        vec![
            shop.place_for("ann", "1", &[("A", 1)]),
            shop.place_for("ann", "2", &[("A", 1)]),
            shop.place_for("ann", "3", &[("B", 2)]),
            shop.place_for("ann", "4", &[("B", 1)]),
        ],
    )
    .await;
    let outcomes: Vec<Outcome> = told.iter().map(|answer| settled(answer).0).collect();
    let (of_sku, of_launch) = (limit_reached("A", 1, 1), limit_reached("B", 3, 3));
    assert_eq!(outcomes, [Outcome::Placed, of_sku, Outcome::Placed, of_launch]);
    balanced(database).await;
}

pub(crate) async fn a_refusal_leaves_the_units_that_every_limit_allows(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 100), ("B", 100)]).await;
    launch(database, -HOUR, "customer_limit", "4", &["A", "B"]).await;
    sql(
        database,
        "UPDATE launch_skus SET customer_limit = 3 WHERE sku_id = (SELECT sku_id FROM skus WHERE sku = 'A')",
    )
    .await;
    let place = |key: &str, sku: &str, units| shop.place_for("ann", key, &[(sku, units)]);
    assert!(is_placed(&commit_one(ledger, place("1", "B", 3)).await));
    let refused = settled(&commit_one(ledger, place("2", "A", 4)).await).0;
    assert_eq!(refused, limit_reached("A", 4, 3), "the SKU's limit refuses as well, and leaves three");
    assert!(!is_placed(&commit_one(ledger, place("3", "A", 2)).await));
    assert!(is_placed(&commit_one(ledger, place("4", "A", 1)).await));
    balanced(database).await;
}

/// Adds launches of SKU A with SQL that ended by themselves long ago.
pub(crate) async fn past_launches(database: &Database, count: i64) {
    for n in 0..count {
        let (opens_at, ends_at) = (1_700_000_000_000_000 + n, 1_700_000_000_000_001 + n);
        let add = format!(
            "INSERT INTO launches (brand, launch, opens_at, ends_at, customer_limit) \
             VALUES ('acme', 'past-{n}', {opens_at}, {ends_at}, 1); \
             INSERT INTO launch_skus (launch_id, sku_id) \
             SELECT launch_id, sku_id FROM launches JOIN skus USING (brand) WHERE launch = 'past-{n}' AND sku = 'A'"
        );
        sql(database, &add).await;
    }
}

pub(crate) async fn launches_that_ended_by_themselves_are_put_away_by_the_next_one(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 100), ("B", 100)]).await;
    past_launches(database, 3).await;
    launch(database, -HOUR, "customer_limit", "1", &["B"]).await;
    let ends = |listed: Vec<launches::Launch>| {
        listed.into_iter().map(|launch| (launch.end(), launch.state)).collect::<Vec<_>>()
    };
    let before = ends(launches::list(ledger, None, None).await.unwrap());
    let new = new_launch("next", UnixMicros::new(2_000_000_000_000_000), &["A"]);
    assert!(matches!(launches::add(ledger, &new).await.unwrap(), AddResult::Added(_)));
    let open_ends = "SELECT count(*) FROM launches WHERE ended_at IS NULL";
    assert_eq!(database.count(open_ends).await, 2, "the one of B, and the next one");
    let after = ends(launches::list(ledger, None, None).await.unwrap());
    assert_eq!(after[1..], before, "nothing else changed");
    if let LedgerUrl::Postgres(_) = database.url() {
        let indexed = "SELECT count(*) FROM launch_skus WHERE NOT isempty(selling)";
        assert_eq!(database.count(indexed).await, 2);
    }
    let early = commit_one(ledger, shop.place("k", &[("A", 1)])).await;
    assert_eq!(settled(&early).0.code(), "launch-not-open");
}

/// Statements of a DBA that must be refused, with a part of the database's answer.
const WRONG: [(&str, &str); 11] = [
    (
        "INSERT INTO launches (brand, launch, opens_at, customer_limit) VALUES ('nobody', 'x', 1800000000000000, 1)",
        "foreign key",
    ),
    (
        "INSERT INTO launches (brand, launch, opens_at, customer_limit) VALUES ('acme', 'air', 1800000000000000, 1)",
        "unique",
    ),
    (
        "INSERT INTO launches (brand, launch, opens_at, customer_limit) VALUES ('acme', 'Air One', 1800000000000000, 1)",
        "launch_name_is",
    ),
    (
        "INSERT INTO launches (brand, launch, opens_at, customer_limit) VALUES ('acme', 'x', 1800000000, 1)",
        "opens_at_is_in_microseconds",
    ),
    (
        "INSERT INTO launches (brand, launch, opens_at, customer_limit) VALUES ('acme', 'x', 1800000000000000, 0)",
        "customer_limit_is_at_least_1",
    ),
    (
        "INSERT INTO launches (brand, launch, opens_at, customer_limit, units) VALUES ('acme', 'x', 1800000000000000, 1, 0)",
        "units_is_at_least_1",
    ),
    (
        "INSERT INTO launches (brand, launch, opens_at, ends_at, customer_limit) VALUES ('acme', 'x', 1800000000000000, 1800000000000000, 1)",
        "ends_at_is_after_opens_at",
    ),
    (
        "INSERT INTO launch_skus (launch_id, sku_id) VALUES ((SELECT launch_id FROM launches WHERE launch = 'air'), \
      (SELECT sku_id FROM skus WHERE brand = 'other'))",
        "brand",
    ),
    ("DELETE FROM launches WHERE launch = 'air'", "has orders"),
    ("UPDATE launches SET brand = 'other' WHERE launch = 'air'", "keeps its brand"),
    ("UPDATE launches SET launch_id = launch_id + 100", ""),
];

pub(crate) async fn a_dbas_mistakes_about_launches_are_named_by_the_database(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 100), ("B", 1)]).await;
    Shop::open(ledger, "other", &[("A", 100)]).await;
    launch(database, -HOUR, "customer_limit", "1", &["A"]).await;
    assert!(is_placed(&commit_one(ledger, shop.place("1", &[("A", 1)])).await));
    for (wrong, told) in WRONG {
        let error = database.refused(wrong).await.to_lowercase();
        assert!(error.contains(told), "{wrong}: {error}");
    }
    // Overlaps: at the same time, later without an end of the first, and by moving one.
    let add = |name: &str, opens_at: &str, ends_at: &str, sku: &str| {
        format!(
            "INSERT INTO launches (brand, launch, opens_at, ends_at, customer_limit) \
             VALUES ('acme', '{name}', {opens_at}, {ends_at}, 1); \
             INSERT INTO launch_skus (launch_id, sku_id) \
             SELECT launch_id, sku_id FROM launches JOIN skus USING (brand) WHERE launch = '{name}' AND sku = '{sku}'"
        )
    };
    let one_at_a_time = "one_launch_of_a_sku_at_a_time";
    let error = database.refused(&add("later", "1900000000000000", "NULL", "A")).await;
    assert!(error.contains(one_at_a_time), "{error}");
    sql(database, "UPDATE launches SET ends_at = 1900000000000000 WHERE launch = 'air'").await;
    sql(database, &add("next", "1900000000000000", "NULL", "A")).await;
    sql(database, &add("beside", "1600000000000000", "NULL", "B")).await;
    for wrong in [
        "UPDATE launches SET ends_at = NULL WHERE launch = 'air'",
        "UPDATE launches SET opens_at = 1899999999999999 WHERE launch = 'next'",
    ] {
        let error = database.refused(wrong).await;
        assert!(error.contains(one_at_a_time), "{wrong}: {error}");
    }
    // What was ended is out of the way, for good.
    sql(database, "UPDATE launches SET ended_at = 1800000000000000 WHERE launch = 'air'").await;
    sql(database, "UPDATE launches SET opens_at = 1800000000000000 WHERE launch = 'next'").await;
    let error = database.refused("UPDATE launches SET ended_at = NULL WHERE launch = 'air'").await;
    assert!(error.contains("for good"), "{error}");
    sql(database, "DELETE FROM launches WHERE launch = 'next'").await;
    balanced(database).await;
}

fn new_launch(name: &str, opens_at: UnixMicros, skus: &[&str]) -> NewLaunch {
    let sku = |sku: &&str| LaunchSku { sku: Sku::new(sku).unwrap(), customer_limit: None };
    NewLaunch {
        brand: Brand::new("acme").unwrap(),
        name: LaunchName::new(name).unwrap(),
        opens_at,
        ends_at: None,
        skus: skus.iter().map(sku).collect(),
        units: Some(10),
        customer_limit: 2,
        rate_per_s: None,
        session_s: 600,
        claim_s: 120,
    }
}

pub(crate) async fn an_operators_launch_is_added_whole_or_told_every_mistake(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 100), ("B", 1)]).await;
    let later = UnixMicros::new(2_000_000_000_000_000);
    let new = new_launch("air", later, &["A", "B"]);
    let AddResult::Added(added) = launches::add(ledger, &new).await.unwrap() else { panic!() };
    assert_eq!(
        (&added.facts, added.state, added.sold, added.ended_at),
        (&new, LaunchState::Announced, 0, None)
    );
    assert_eq!(launches::list(ledger, Some(&shop.brand), None).await.unwrap(), std::slice::from_ref(&added));
    assert_eq!(launches::list(ledger, None, Some(&new.name)).await.unwrap(), [added]);
    let early = commit_one(ledger, shop.place("k", &[("B", 1)])).await;
    assert_eq!(settled(&early).0.code(), "launch-not-open");

    let past = UnixMicros::new(1_700_000_000_000_000);
    let wrong = NewLaunch { ends_at: Some(past), ..new_launch("air", past, &["A", "C", "D"]) };
    let AddResult::Mistakes(mistakes) = launches::add(ledger, &wrong).await.unwrap() else { panic!() };
    let sku = |sku| Sku::new(sku).unwrap();
    assert_eq!(mistakes[0], LaunchMistake::NameTaken(wrong.name.clone()));
    assert_eq!(mistakes[1], LaunchMistake::UnknownSkus(vec![sku("C"), sku("D")]));
    assert!(matches!(mistakes[2], LaunchMistake::OpensInThePast { opens_at, .. } if opens_at == past));
    assert_eq!(mistakes[3..], [LaunchMistake::EndsBeforeItOpens]);
    let overlapping = new_launch("other", later, &["B"]);
    let AddResult::Mistakes(mistakes) = launches::add(ledger, &overlapping).await.unwrap() else { panic!() };
    let overlap =
        LaunchMistake::Overlap { sku: sku("B"), launch: "air".to_owned(), opens_at: later, ends_at: None };
    assert_eq!(mistakes, [overlap]);
    let nobody = Brand::new("nobody").unwrap();
    let draft =
        LaunchDraft { brand: nobody.clone(), name: None, opens_at: None, ends_at: None, skus: vec![] };
    assert_eq!(launches::check(ledger, &draft).await.unwrap(), [LaunchMistake::UnknownBrand(nobody)]);
    assert_eq!(database.count("SELECT count(*) FROM launches").await, 1, "nothing of them was added");
}

/// One device of a customer: what it sends, one request after the other.
async fn device(ledger: &Ledger, requests: Vec<Request>) -> usize {
    let mut placed = 0;
    for request in requests {
        placed += usize::from(is_placed(&commit_one(ledger, request).await));
    }
    placed
}

pub(crate) async fn many_devices_of_one_customer_get_exactly_the_limit(database: &Database) {
    let shop = Shop::open(&database.ledger, "acme", &[("A", 1_000), ("B", 1_000), ("C", 1_000)]).await;
    launch(database, -HOUR, "customer_limit", "5", &["A", "B", "C"]).await;
    let agents = [&database.ledger, &database.second_agent().await];
    // Each device orders another SKU than the one before it, so their batches need different stock.
    let run = |n: usize| {
        let sku = ["A", "B", "C"][n % 3];
        let order = |round| shop.place_for("bot", &format!("{n}-{round}"), &[(sku, 1)]);
        device(agents[n % 2], (0..4).map(order).collect())
    };
    let (a, b, c, d, e, f) = tokio::join!(run(0), run(1), run(2), run(3), run(4), run(5));
    assert_eq!(a + b + c + d + e + f, 5);
    assert_eq!(database.count("SELECT sold FROM launch_sales").await, 5);
    balanced(database).await;
}

pub(crate) async fn agents_at_once_sell_exactly_a_launchs_units(database: &Database) {
    let shop = Shop::open(&database.ledger, "acme", &[("A", 1_000), ("B", 1_000)]).await;
    launch(database, -HOUR, "customer_limit, units", "1, 40", &["A", "B"]).await;
    let agents = [&database.ledger, &database.second_agent().await, &database.second_agent().await];
    let run = |n: usize| {
        let (shop, ledger, sku) = (&shop, agents[n], ["A", "B"][n % 2]);
        async move {
            let mut placed = 0;
            for round in 0..5 {
                let order = |k| {
                    let name = format!("{n}-{round}-{k}");
                    shop.place_for(&name, &name, &[(sku, 1)])
                };
                let told = commit(ledger, (0..6).map(order).collect()).await;
                placed += told.iter().filter(|answer| is_placed(answer)).count();
            }
            placed
        }
    };
    let (first, second, third) = tokio::join!(run(0), run(1), run(2));
    assert_eq!(first + second + third, 40);
    assert_eq!(database.count("SELECT sold FROM launch_sales").await, 40);
    balanced(database).await;
}

/// Lines of an order: SKUs and units.
type Lines = Vec<(&'static str, i64)>;

/// A plain model: what a launch of all SKUs sells, decided one request after the other.
struct PlainShop {
    stock: BTreeMap<&'static str, i64>,
    limit: i64,
    units: i64,
    /// Lines and customer of each order that stands.
    standing: HashMap<OrderId, (String, Lines)>,
    /// Orders that were placed once.
    placed: BTreeSet<OrderId>,
}

impl PlainShop {
    fn units_of(&self, customer: &str) -> i64 {
        let own = self.standing.values().filter(|(of, _)| of == customer);
        own.flat_map(|(_, lines)| lines).map(|(_, units)| units).sum()
    }

    fn place(&mut self, order: OrderId, customer: &str, lines: &[(&'static str, i64)]) -> Outcome {
        let (bought, mut taken) = (self.units_of(customer), 0);
        let sold: i64 = self.standing.values().flat_map(|(_, lines)| lines).map(|(_, units)| units).sum();
        for (sku, units) in lines {
            taken += units;
            if bought + taken > self.limit {
                return limit_reached(sku, self.limit, bought);
            }
            if sold + taken > self.units || self.stock[sku] < *units {
                return sold_out(sku);
            }
        }
        lines.iter().for_each(|(sku, units)| *self.stock.get_mut(sku).unwrap() -= units);
        self.standing.insert(order, (customer.to_owned(), lines.to_vec()));
        self.placed.insert(order);
        Outcome::Placed
    }

    fn cancel(&mut self, order: OrderId) -> Outcome {
        if let Some((_, lines)) = self.standing.remove(&order) {
            lines.iter().for_each(|(sku, units)| *self.stock.get_mut(sku).unwrap() += units);
        }
        if self.placed.contains(&order) { Outcome::Cancelled } else { Outcome::NotCancellable }
    }
}

pub(crate) async fn random_orders_and_cancellations_end_as_in_a_plain_model(database: &Database) {
    const SKUS: [&str; 3] = ["A", "B", "C"];
    let seed = std::env::var("LAUNCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    println!("LAUNCH_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let stock = SKUS.map(|sku| (sku, random.random_range(5..30)));
    let (limit, units) = (random.random_range(1..6), random.random_range(10..60));
    let shop = Shop::open(&database.ledger, "acme", &stock).await;
    launch(database, -HOUR, "customer_limit, units", &format!("{limit}, {units}"), &SKUS).await;
    let (standing, placed) = (HashMap::new(), BTreeSet::new());
    let mut model = PlainShop { stock: stock.into(), limit, units, standing, placed };
    let mut orders: Vec<OrderId> = Vec::new();
    for round in 0..40 {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for n in 0..random.random_range(1..12) {
            let key = format!("{round}-{n}");
            if !orders.is_empty() && random.random_ratio(1, 3) {
                let order = orders[random.random_range(0..orders.len())];
                requests.push(shop.cancel(&key, order));
                expected.push(model.cancel(order));
                continue;
            }
            let customer = format!("customer-{}", random.random_range(0..5));
            let lines = random_lines(&mut random, &SKUS);
            let request = shop.place_for(&customer, &key, &lines);
            orders.push(order_of(&request));
            expected.push(model.place(order_of(&request), &customer, &lines));
            requests.push(request);
        }
        let told = commit(&database.ledger, requests).await;
        let told: Vec<Outcome> = told.iter().map(|answer| settled(answer).0).collect();
        assert_eq!(told, expected, "LAUNCH_SEED={seed}, round {round}");
    }
    let sold: i64 = model.standing.values().flat_map(|(_, lines)| lines).map(|(_, units)| units).sum();
    assert_eq!(database.count("SELECT sold FROM launch_sales").await, sold, "LAUNCH_SEED={seed}");
    balanced(database).await;
}

/// One device that orders for any customer, and cancels some of its own orders again. Returns the
/// units that each customer has of it in the end.
async fn random_device(ledger: &Ledger, shop: &Shop, name: &str, seed: u64) -> BTreeMap<String, i64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut own, mut bought) = (Vec::new(), BTreeMap::<String, i64>::new());
    for round in 0..30 {
        let key = format!("{name}-{round}");
        if !own.is_empty() && random.random_ratio(1, 3) {
            let (order, customer, units) = own.swap_remove(random.random_range(0..own.len()));
            let told = settled(&commit_one(ledger, shop.cancel(&key, order)).await).0;
            assert_eq!(told, Outcome::Cancelled);
            *bought.entry(customer).or_default() -= units;
            continue;
        }
        let customer = format!("customer-{}", random.random_range(0..3));
        let lines = random_lines(&mut random, &["A", "B", "C"]);
        let request = shop.place_for(&customer, &key, &lines);
        if is_placed(&commit_one(ledger, request.clone()).await) {
            let units = lines.iter().map(|(_, units)| units).sum::<i64>();
            own.push((order_of(&request), customer.clone(), units));
            *bought.entry(customer).or_default() += units;
        }
    }
    bought
}

pub(crate) async fn random_devices_at_once_leave_each_customer_within_the_limit(database: &Database) {
    let seed = std::env::var("LAUNCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    println!("LAUNCH_SEED={seed}");
    let shop = Shop::open(&database.ledger, "acme", &[("A", 100), ("B", 100), ("C", 100)]).await;
    launch(database, -HOUR, "customer_limit", "6", &["A", "B", "C"]).await;
    let agents = [&database.ledger, &database.second_agent().await];
    let run = |n: usize| {
        let seed = seed.wrapping_add(n as u64);
        let shop = &shop;
        async move { random_device(agents[n % 2], shop, &format!("device-{n}"), seed).await }
    };
    let (a, b, c, d) = tokio::join!(run(0), run(1), run(2), run(3));
    let mut bought = BTreeMap::<String, i64>::new();
    for (customer, units) in [a, b, c, d].into_iter().flatten() {
        *bought.entry(customer).or_default() += units;
    }
    assert!(bought.values().all(|units| (0..=6).contains(units)), "LAUNCH_SEED={seed}: {bought:?}");
    // What is left to each customer is exactly what can still be bought.
    for (customer, units) in bought {
        let more = |n: i64| shop.place_for(&customer, &format!("last-{customer}-{n}"), &[("A", n)]);
        let refused = commit_one(&database.ledger, more(7 - units)).await;
        assert_eq!(settled(&refused).0, limit_reached("A", 6, units), "LAUNCH_SEED={seed}");
        if units < 6 {
            assert!(is_placed(&commit_one(&database.ledger, more(6 - units)).await), "LAUNCH_SEED={seed}");
        }
    }
    balanced(database).await;
}

/// Returns one to three lines, each of another SKU.
fn random_lines(random: &mut impl Rng, skus: &[&'static str; 3]) -> Vec<(&'static str, i64)> {
    let first = random.random_range(0..3);
    let lines = (0..random.random_range(1..=3)).map(|n| skus[(first + n) % 3]);
    lines.map(|sku| (sku, random.random_range(1..3))).collect()
}

#[tokio::test]
async fn only_orders_of_a_held_launch_wait_for_it() {
    let database = postgres("held_launch").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10), ("B", 10)]).await;
    launch(&database, -HOUR, "customer_limit", "2", &["A"]).await;
    let bought = shop.place_for("ann", "0", &[("A", 1)]);
    assert!(is_placed(&commit_one(ledger, bought.clone()).await));
    let holder = psql(&database, "SELECT * FROM launch_sales FOR UPDATE").await;
    let requests = vec![
        shop.place_for("ann", "1", &[("A", 1)]),
        shop.place_for("ann", "2", &[("B", 1)]),
        shop.cancel("c", order_of(&bought)),
    ];
    let end = ledger.commit(&batch(requests.clone()), None).await;
    let launch_id = database.count("SELECT launch_id FROM launches").await;
    let awaited = Awaited::Launch { brand: shop.brand.clone(), launch_id };
    let waits = |end: &RequestEnd| matches!(end, RequestEnd::Waits(on) if *on == awaited);
    assert_eq!(end.ends.iter().map(waits).collect::<Vec<_>>(), [true, false, true]);
    assert!(matches!(end.ends[1], RequestEnd::Committed(_)));
    let still = ledger.commit(&batch(vec![requests[0].clone()]), Some(&awaited)).await;
    assert!(waits(&still.ends[0]), "{still:?}");
    drop(holder);
    let freed = ledger.commit(&batch(vec![requests[0].clone(), requests[2].clone()]), Some(&awaited)).await;
    let codes: Vec<String> =
        answers(freed).iter().map(|answer| settled(answer).0.code().to_owned()).collect();
    assert_eq!(codes, ["placed", "cancelled"]);
    balanced(&database).await;
}

/// A purchase of an agent that is not committed yet.
const FIRST_PURCHASE: &str = "SELECT * FROM launch_sales FOR NO KEY UPDATE; \
     INSERT INTO launch_purchases (order_id, sku_id, launch_id, customer, units) \
     SELECT gen_random_uuid(), sku_id, launch_id, decode(repeat('00', 32), 'hex'), 1 FROM launch_skus";

#[tokio::test]
async fn a_launch_is_not_deleted_beside_its_first_order() {
    let database = postgres("deleted_launch").await;
    Shop::open(&database.ledger, "acme", &[("A", 10)]).await;
    launch(&database, -HOUR, "customer_limit", "2", &["A"]).await;
    let mut agent = psql(&database, FIRST_PURCHASE).await;
    let mut owner = psql(&database, "SELECT 1").await;
    let gone = tokio::spawn(async move { sqlx::raw_sql("DELETE FROM launches").execute(&mut owner).await });
    until_one_waits(&database).await;
    sqlx::raw_sql("COMMIT").execute(&mut agent).await.unwrap();
    let refused = gone.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("launch air has orders: set its ended_at instead"), "{refused}");
    assert_eq!(database.count("SELECT count(*) FROM launch_sales").await, 1);
}

#[tokio::test]
async fn of_two_launches_of_a_sku_added_at_once_one_is_refused() {
    let database = postgres("launches_at_once").await;
    let ledger = &database.ledger;
    Shop::open(ledger, "acme", &[("A", 10)]).await;
    let later = UnixMicros::new(2_000_000_000_000_000);
    let other = database.second_agent().await;
    for round in 0..10 {
        let (first, second) = (format!("a{round}"), format!("b{round}"));
        let (first, second) = (new_launch(&first, later, &["A"]), new_launch(&second, later, &["A"]));
        let (a, b) = tokio::join!(launches::add(ledger, &first), launches::add(&other, &second));
        let added = [&a, &b].iter().filter(|end| matches!(end, Ok(AddResult::Added(_)))).count();
        assert_eq!(added, 1, "{a:?} {b:?}");
        sql(&database, "DELETE FROM launches").await;
    }
}

#[tokio::test]
async fn the_roles_of_role_sql_suffice_for_launches() {
    let database = postgres("launch_roles").await;
    let LedgerUrl::Postgres(owner) = database.url() else { unreachable!() };
    let making_roles = ROLES.lock().await;
    database.run(ROLE_SQL, "").await;
    let mut agents = Vec::new();
    for role in ["serve", "catalogue"] {
        let login = format!("CREATE ROLE launch_{role} LOGIN PASSWORD 'secret' IN ROLE bridge_{role}");
        database.run(&login, "").await;
        let server = owner.split_once('@').unwrap().1;
        let url = LedgerUrl::Postgres(format!("postgres://launch_{role}:secret@{server}"));
        agents.push(connect(&url).await);
    }
    drop(making_roles);
    let (agent, operator) = (&agents[0], &agents[1]);
    let shop = Shop::open(&database.ledger, "acme", &[("A", 10)]).await;
    let later = UnixMicros::new(2_000_000_000_000_000);
    let new = new_launch("air", later, &["A"]);
    assert!(matches!(launches::add(operator, &new).await.unwrap(), AddResult::Added(_)));
    sql(&database, "UPDATE launches SET opens_at = 1700000000000000").await;
    let bought = shop.place_for("ann", "1", &[("A", 2)]);
    assert!(is_placed(&commit_one(agent, bought.clone()).await));
    let more = commit_one(agent, shop.place_for("ann", "2", &[("A", 1)])).await;
    assert_eq!(settled(&more).0, limit_reached("A", 2, 2));
    let back = commit_one(agent, shop.cancel("c", order_of(&bought))).await;
    assert_eq!(settled(&back).0, Outcome::Cancelled);
    let ended = launches::end(operator, &shop.brand, &new.name).await.unwrap();
    assert!(matches!(ended, EndResult::Ended(_)), "{ended:?}");
    balanced(&database).await;
}
