//! Tests that the rights of `role.sql` suffice for each command, and allow nothing more.

use std::time::Duration;

use bridge_idc::catalogue::import::stock::StockFile;
use bridge_idc::config::LedgerUrl;
use bridge_idc::orders::store::LedgerError;
use bridge_idc::vault::keyring::Keyring;
use bridge_protocol::domain::Outcome;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::database::{ROLES, connect, postgres};
use crate::held::holds;
use crate::payments;
use crate::shop::{Shop, commit_one, import, is_placed, now, order_of, settled};

pub(crate) const ROLE_SQL: &str = include_str!("../../../bridge-idc/src/database/postgres/role.sql");

#[tokio::test]
async fn each_command_works_with_its_own_role_and_nothing_more() {
    let database = postgres("role").await;
    let LedgerUrl::Postgres(owner) = database.url() else { unreachable!() };
    let making_roles = ROLES.lock().await;
    database.run(ROLE_SQL, "").await;
    database.run(ROLE_SQL, "").await;
    let mut logins = Vec::new();
    for role in ["serve", "stock", "personal"] {
        let login = format!("CREATE ROLE ledger_{role} LOGIN PASSWORD 'secret' IN ROLE bridge_{role}");
        database.run(&login, "").await;
        let server = owner.split_once('@').unwrap().1;
        logins.push(LedgerUrl::Postgres(format!("postgres://ledger_{role}:secret@{server}")));
    }
    drop(making_roles);
    let [serve, stock, personal] = [&logins[0], &logins[1], &logins[2]];

    let shop = Shop::open(&connect(stock).await, "acme", &[("A", 5)]).await;
    import(&connect(stock).await, "brand,sku,unit_price,currency,quantity\nacme,A,219000,KRW,5\n").await;
    // An importer of stock learns which process holds the row, and may read nothing else for that.
    let holder = holds(&database, "A").await;
    let file =
        StockFile::read("brand,sku,unit_price,currency,quantity\nacme,A,219000,KRW,5\n".as_bytes()).unwrap();
    let error = connect(stock).await.import_stock(&file, Duration::ZERO, |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("(process "), "{error}");
    drop(holder);
    let agent = connect(serve).await;
    agent.ready().await.unwrap();
    agent.check_keys(&Keyring::for_tests(1).checks(), now()).await.unwrap();
    let request = shop.place("k", &[("A", 2)]);
    let order = order_of(&request);
    assert!(is_placed(&commit_one(&agent, request.clone()).await));
    assert_eq!(settled(&commit_one(&agent, request).await), (Outcome::Placed, true));
    payments::goes_all_the_way(&agent, &shop, order).await;
    assert_eq!(settled(&commit_one(&agent, shop.cancel("c", order)).await), (Outcome::Cancelled, false));
    assert_eq!(agent.look_up(&shop.brand, order, None).await.unwrap().unwrap().state, "cancelled");
    assert_eq!(shop.stock(&agent, "A").await, (5, 0));
    let dba = connect(personal).await;
    dba.record_personal_access(order, "a parcel came back", "dba", now()).await.unwrap();
    assert!(dba.personal(order).await.unwrap().is_some());
    assert_eq!(dba.login().await.unwrap().as_deref(), Some("ledger_personal"));

    assert!(
        matches!(agent.personal(order).await, Err(LedgerError::Denied(_))),
        "the agent reads no ciphertext"
    );
    // Other rights than those of role.sql are needed for this.
    let told = agent.migrate().await.unwrap_err();
    assert!(
        matches!(told, LedgerError::NotTheOwner(_)) && told.to_string().contains("as their owner"),
        "{told}"
    );
    for (login, sql) in [
        (serve, "SELECT customer_name FROM order_personal"),
        (serve, "UPDATE order_personal SET customer_name = NULL"),
        (serve, "UPDATE outcomes SET outcome = 'placed'"),
        (serve, "UPDATE orders SET total = 0"),
        (serve, "UPDATE order_lines SET quantity = 1"),
        (serve, "UPDATE skus SET price = 0"),
        (serve, "UPDATE stock SET initial = 1000"),
        (serve, "UPDATE payments SET amount = 1"),
        (serve, "UPDATE payments SET payment_key = 'k'"),
        (serve, "UPDATE refunds SET amount = 1"),
        (serve, "UPDATE payment_requests SET refund_id = NULL"),
        (serve, "UPDATE launches SET customer_limit = 100"),
        (serve, "INSERT INTO launch_sales (launch_id) VALUES (1)"),
        (serve, "UPDATE launch_purchases SET units = 1"),
        (serve, "DELETE FROM launch_purchases"),
        (stock, "SELECT * FROM launch_purchases"),
        (serve, "UPDATE key_checks SET noted_at = 0"),
        (serve, "DELETE FROM key_checks"),
        (serve, "DELETE FROM payments"),
        (serve, "DELETE FROM refunds"),
        (serve, "DELETE FROM outcomes"),
        (serve, "DELETE FROM orders"),
        (serve, "TRUNCATE order_personal"),
        (serve, "SELECT * FROM personal_access"),
        (serve, "CREATE TABLE mine (a int)"),
        (stock, "SELECT * FROM orders"),
        (stock, "SELECT * FROM payments"),
        (stock, "SELECT * FROM key_checks"),
        (stock, "SELECT * FROM order_personal"),
        (stock, "UPDATE stock SET sold = 0"),
        (stock, "DELETE FROM stock"),
        (personal, "DELETE FROM personal_access"),
        (personal, "SELECT * FROM personal_access"),
        (personal, "UPDATE orders SET state = 'placed'"),
    ] {
        let LedgerUrl::Postgres(url) = login else { unreachable!() };
        let mut connection = PgConnection::connect(url).await.unwrap();
        let error = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap_err();
        let state = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(state.as_deref(), Some("42501"), "{sql}: {error}");
        let told = LedgerError::from(error).to_string();
        assert!(told.contains("permission denied for ") && told.contains("role.sql"), "{sql}: {told}");
    }
}
