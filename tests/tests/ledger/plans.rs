//! Plans of PostgreSQL for the statements of a batch: each finds its rows by a key, and looks up no
//! launch if none is to come or open.

use sqlx::{AssertSqlSafe, Row as _};

use crate::database::{Database, postgres};
use crate::held::psql;
use crate::launches::{HOUR, launch, past_launches};
use crate::shop::{Shop, commit_one, settled};

/// Statements that look the launches of SKUs up, with the types of their parameters.
const LOOK_UPS: [(&str, &str, &str); 3] = [
    (
        include_str!("../../../bridge-idc/src/orders/store/postgres/lock_stock.sql"),
        "text[], text[], bigint[], bigint[]",
        "'{acme}', '{A}', '{}', '{}'",
    ),
    (
        include_str!("../../../bridge-idc/src/orders/store/postgres/lock_stock_waiting.sql"),
        "text[], text[], bigint[], bigint[]",
        "'{acme}', '{A}', '{}', '{}'",
    ),
    (
        include_str!("../../../bridge-idc/src/orders/store/postgres/facts.sql"),
        "text[], text[], text[], bigint[], bytea[], uuid[], text[], bytea[], bigint[]",
        "'{acme}', '{acme}', '{A}', '{}', '{}', '{}', '{}', '{}', '{}'",
    ),
];

/// Returns how each statement is carried out, with the settings of an agent's sessions.
async fn plans(database: &Database) -> Vec<String> {
    let settings = "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan";
    let mut session = psql(database, settings).await;
    let mut plans = Vec::new();
    for (n, (text, types, values)) in LOOK_UPS.into_iter().enumerate() {
        let prepare = format!("PREPARE look_up_{n} ({types}) AS {text}");
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut session).await.unwrap();
        let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE look_up_{n} ({values})");
        let lines = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut session).await.unwrap();
        let lines: Vec<String> = lines.iter().map(|row| row.get(0)).collect();
        plans.push(lines.join("\n"));
    }
    plans
}

/// Returns true if the SKUs' launches were looked up in their index.
fn are_launches_looked_up(plan: &str) -> bool {
    let is_look = |line: &&str| line.contains("launch_skus_selling") || line.contains("launch_skus_pkey");
    let looks = Vec::from_iter(plan.lines().filter(is_look));
    assert!(!looks.is_empty(), "{plan}");
    looks.iter().any(|line| !line.contains("never executed"))
}

#[tokio::test]
async fn no_sku_is_looked_up_for_launches_that_have_ended_by_themselves() {
    let database = postgres("past_launches").await;
    let shop = Shop::open(&database.ledger, "acme", &[("A", 10), ("B", 10)]).await;
    past_launches(&database, 300).await;
    for plan in plans(&database).await {
        assert!(!plan.contains("Seq Scan"), "{plan}");
        assert!(!are_launches_looked_up(&plan), "{plan}");
    }
    launch(&database, HOUR, "customer_limit", "1", &["A"]).await;
    for plan in plans(&database).await {
        assert!(are_launches_looked_up(&plan), "{plan}");
    }
    let early = commit_one(&database.ledger, shop.place("k", &[("A", 1)])).await;
    assert_eq!(settled(&early).0.code(), "launch-not-open");
}
