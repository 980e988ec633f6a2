//! Personal data goes in and never comes out (promise P5). One command in the IDC shows it, and
//! each use of the command is recorded.

use crate::common::{Shop, order_at, postgres, site_of};
use anyhow::{Context, Result, ensure};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::postgres::Postgres;
use bridge_tests::testkit::privacy::Search;
use bridge_tests::testkit::process::Programs;
use bridge_tests::testkit::site::{Setup, Site};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, PgConnection, SqliteConnection};
use tokio::process::Command;

/// Records the frames that the agents hand to the tunnel. After TLS a search would find nothing,
/// whether the data is sealed or not.
const FRAMES: Setup = Setup { tapped: true, frames: true, wan: false, cloud_dials: false };

#[tokio::test]
async fn personal_data_is_shown_on_the_record_and_nowhere_else_on_sqlite() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // The ledger's file lies in the IDC's folder.
    let database = Database::Sqlite(dir.path().join("idc").join("ledger.db"));
    let site = site_of(dir.path(), database, &["privacy"], FRAMES).await?;
    goes_in_and_never_comes_out(&site, None).await
}

#[tokio::test]
async fn personal_data_is_shown_on_the_record_and_nowhere_else_on_postgres() -> Result<()> {
    let (cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_of(dir.path(), database, &["privacy"], FRAMES).await?;
    goes_in_and_never_comes_out(&site, Some(&cluster)).await
}

async fn goes_in_and_never_comes_out(site: &Site, cluster: Option<&Postgres>) -> Result<()> {
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(site, "privacy");
    let (mut orders, mut bodies, mut planted) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let order = shop.order(&[(0, 1), (1, 1)]);
        let answer = shop.place(&order.key, order.body.clone()).await?;
        ensure!(answer.status == 201, "{}", answer.status);
        ensure!(shop.needles().count(&answer.body) == 0, "an answer holds personal data");
        let state = shop.get(answer.header("location").context("no Location")?).await?;
        ensure!(state.status == 200 && shop.needles().count(&state.body) == 0, "a state holds personal data");
        orders.push(order_at(&answer)?);
        bodies.push(order.body);
        planted.push(order.planted);
    }

    let body: serde_json::Value = serde_json::from_slice(&bodies[0])?;
    let shown = site.idc_command(&["personal", "show", &orders[0], "--purpose", "TICKET_4711"]).await?;
    let mut expected = String::new();
    for (part, fields) in [
        ("customer", &["name", "phone", "email"][..]),
        ("delivery", &["name", "phone", "postal_code", "address", "country", "note"]),
    ] {
        for field in fields {
            let value = &body[part][field];
            let lines = value
                .as_array()
                .map(|lines| lines.iter().filter_map(|line| line.as_str()).collect::<Vec<_>>().join(" / "));
            let text = lines.or_else(|| value.as_str().map(str::to_owned)).context("no text")?;
            expected.push_str(&format!("{part}_{field}: {text}\n"));
        }
    }
    ensure!(shown == expected, "{shown}");
    let mut ledger = Ledger::open(site.database()).await?;
    ensure!(ledger.accesses().await? == ["TICKET_4711"], "the access is not recorded");

    ensure!(refusal(site, &["personal", "show", &orders[0]]).await?.0 == 2, "without a purpose");
    for (order, purpose, code, why) in [
        (orders[0].as_str(), " ", 2, "--purpose must say why"),
        // The audit log stores no free text, and its first word alone would say nothing.
        (orders[0].as_str(), "ticket 4711", 2, "--purpose must say why, in one word, such as TICKET_4711"),
        ("no-order", "ticket", 2, "an order id is a version 7 UUID"),
        ("01930000-0000-7000-8000-000000000000", "ticket", 1, "no personal data is held"),
    ] {
        let (status, said) = refusal(site, &["personal", "show", order, "--purpose", purpose]).await?;
        ensure!(status == code && said.contains(why), "{status}: {said}");
    }
    ensure!(ledger.accesses().await?.len() == 1, "a refused command was recorded as an access");

    // A ciphertext copied from the same column of another order does not open, and the attempt is
    // recorded.
    let [first, second, third] = [&orders[0], &orders[1], &orders[2]];
    ledger.copy("delivery_phone", second, first).await?;
    let (status, said) = refusal(site, &["personal", "show", first, "--purpose", "moved"]).await?;
    ensure!(
        status == 1 && said.contains("the delivery_phone column was changed, moved from another row"),
        "{said}"
    );
    ledger.copy("wrapped_key", second, third).await?;
    let (status, said) = refusal(site, &["personal", "show", third, "--purpose", "swapped"]).await?;
    ensure!(status == 1 && said.contains("the wrapped_key column was changed"), "{said}");
    ensure!(
        ledger.accesses().await? == ["TICKET_4711", "moved", "swapped"],
        "{:?}",
        ledger.accesses().await?
    );
    ensure!(site.idc_command(&["personal", "show", second, "--purpose", "untouched"]).await.is_ok());

    // Personal data is not shown if the access cannot be recorded.
    ledger.run("ALTER TABLE personal_access RENAME TO gone").await?;
    let (status, said) = refusal(site, &["personal", "show", second, "--purpose", "off-the-record"]).await?;
    ensure!(status == 1, "{said}");
    ledger.run("ALTER TABLE gone RENAME TO personal_access").await?;
    drop(ledger);

    ensure!(shop.needles().count(said.as_bytes()) == 0, "{said}");
    let values = planted.iter().map(|values| values.iter().map(String::as_str).collect());
    let mut search = Search::new(values.zip(bodies.iter().map(|body| &body[..])));
    search.while_they_run(site, &bridge).await?;
    ensure!(bridge.cloud.terminate().await?.success() && bridge.idc.terminate().await?.success());
    search.what_is_left(site, cluster)?;
    let searched = search.end();
    searched.judge()?;
    ensure!(searched.orders_in_frames == Some(20), "{searched:?}");
    if let [what, ..] = &searched.not_searched[..] {
        skipped(Lack::Memory, what);
    }
    Ok(())
}

/// Runs a command that must fail and print nothing. Returns its exit code and standard error.
async fn refusal(site: &Site, command: &[&str]) -> Result<(i32, String)> {
    let config = site.idc_dir().join("bridge-idc.toml");
    let output =
        Command::new(Programs::build()?.idc).args(command).arg("--config").arg(config).output().await?;
    ensure!(output.stdout.is_empty(), "the command printed {}", String::from_utf8_lossy(&output.stdout));
    Ok((
        output.status.code().context("the command was ended by a signal")?,
        String::from_utf8(output.stderr)?,
    ))
}

/// The database, as a DBA uses it.
enum Ledger {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Ledger {
    async fn open(database: &Database) -> Result<Ledger> {
        Ok(match database {
            Database::Sqlite(path) => {
                Ledger::Sqlite(SqliteConnectOptions::new().filename(path).connect().await?)
            }
            Database::Postgres { url, password } => {
                let options: PgConnectOptions = url.parse()?;
                let options = options.password(password.as_deref().unwrap_or_default());
                Ledger::Postgres(options.connect().await?)
            }
        })
    }

    async fn run(&mut self, sql: &str) -> Result<()> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self {
            Ledger::Sqlite(connection) => sqlx::raw_sql(sql).execute(connection).await.map(|_| ())?,
            Ledger::Postgres(connection) => sqlx::raw_sql(sql).execute(connection).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Copies a column of one order's personal data to another order.
    async fn copy(&mut self, column: &str, from: &str, to: &str) -> Result<()> {
        let id = |order: &str| match self {
            Ledger::Sqlite(_) => format!("x'{}'", order.replace('-', "")),
            Ledger::Postgres(_) => format!("'{order}'"),
        };
        let (from, to) = (id(from), id(to));
        self.run(&format!(
            "UPDATE order_personal SET {column} = (SELECT {column} FROM order_personal WHERE order_id = {from})
             WHERE order_id = {to}"
        ))
        .await
    }

    /// Returns the purpose of each recorded access, in order.
    async fn accesses(&mut self) -> Result<Vec<String>> {
        let sql = "SELECT purpose FROM personal_access ORDER BY access_id";
        Ok(match self {
            Ledger::Sqlite(connection) => sqlx::query_scalar(sql).fetch_all(connection).await?,
            Ledger::Postgres(connection) => sqlx::query_scalar(sql).fetch_all(connection).await?,
        })
    }
}
