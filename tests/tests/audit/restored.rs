//! Tests `audit compare`: a database that was restored to an earlier state, compared with the audit
//! log. The command names each order, cancellation, payment and refund after that state, nothing
//! else, and nothing personal.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Shop, configure, order_at, postgres, site_on};
use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::audits;
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::HttpAnswer;
use bridge_tests::testkit::payers::TestGateway;
use bridge_tests::testkit::postgres::Postgres;
use bridge_tests::testkit::sandbox::{Mischief, Rates, Sandbox};
use bridge_tests::testkit::site::{Bridge, Site};
use serde_json::{Value, json};

/// Total of an order of one pair of shoes, in won.
const TOTAL: i64 = 222_000;

/// Order ids, each with what was lost of it.
type Lost = BTreeSet<(String, String)>;

/// Exit code and output of a command.
struct CommandEnd {
    code: Option<i32>,
    out: String,
    error: String,
}

impl CommandEnd {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("{} {}", self.out, self.error))
    }

    /// Returns the findings of one kind as pairs: the order, and what of it differs.
    fn found(&self, what: &str) -> Result<Lost> {
        let json = self.json()?;
        let all = json["findings"].as_array().context("no list")?.iter();
        let of_kind = all.filter(|one| one["what"] == what);
        let text = |one: &Value, member: &str| one[member].as_str().unwrap_or_default().to_owned();
        Ok(of_kind.map(|one| (text(one, "order"), text(one, "about"))).collect())
    }
}

fn compare(site: &Site, more: &[&str]) -> Result<CommandEnd> {
    let config = site.idc.arguments.last().context("no configuration")?;
    let mut command = Command::new(&site.idc.program);
    let output = command.args(["audit", "compare", "--config", config]).args(more).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(CommandEnd { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) })
}

async fn end(bridge: &mut Bridge) -> Result<()> {
    for agent in [&mut bridge.cloud, &mut bridge.idc] {
        ensure!(agent.terminate().await?.success(), "an agent did not end in order");
    }
    Ok(())
}

/// A shop that takes payments, and its client.
struct Customer {
    site: Site,
    shop: Shop,
    client: bridge_tests::testkit::http::Client,
}

impl Customer {
    async fn order(&mut self) -> Result<String> {
        let answer = self.shop.place_new(&[(0, 1)]).await?;
        ensure!(answer.status == 201, "{}", answer.status);
        order_at(&answer)
    }

    async fn post(&mut self, path: &str, key: &str, body: Value) -> Result<HttpAnswer> {
        let token = self.site.token("shoes").to_owned();
        Ok(self.client.post(path, Some(&token), Some(key), body.to_string().into()).await?)
    }

    /// Pays an order. Returns the path of the payment.
    async fn pay(&mut self, order: &str) -> Result<String> {
        let path = format!("{}/{order}/payments", self.shop.orders());
        let body = json!({
            "amount": {"amount": TOTAL, "currency": "KRW"}, "payment_key": format!("tgen_{order}"),
        });
        let paid = self.post(&path, &format!("pay-{order}"), body).await?;
        ensure!(paid.status == 201, "{}", paid.json());
        Ok(paid.header("location").context("no Location")?.split('?').next().unwrap_or_default().to_owned())
    }

    /// Begins a payment that the gateway does not answer. Returns its id.
    async fn doubt(&mut self, order: &str, sandbox: &Sandbox) -> Result<String> {
        sandbox.next([Mischief::HangBefore]);
        let path = format!("{}/{order}/payments", self.shop.orders());
        let body = json!({
            "amount": {"amount": TOTAL, "currency": "KRW"}, "payment_key": format!("tgen_{order}"),
        });
        let doubt = self.post(&path, &format!("doubt-{order}"), body).await?;
        ensure!(doubt.status == 202, "{}", doubt.json());
        Ok(doubt.json()["payment"].as_str().context("no id")?.to_owned())
    }

    /// Begins a refund that the gateway does not confirm. Returns its id.
    async fn doubtful_refund(&mut self, payment: &str, sandbox: &Sandbox) -> Result<String> {
        sandbox.next([Mischief::HangAfter]);
        let body = json!({ "amount": {"amount": 1_000, "currency": "KRW"}, "reason": "a scratch" });
        let doubt = self.post(&format!("{payment}/refunds"), "doubtful", body).await?;
        ensure!(doubt.status == 202, "{}", doubt.json());
        Ok(doubt.json()["refund"]["refund"].as_str().context("no id")?.to_owned())
    }

    async fn refund(&mut self, payment: &str) -> Result<()> {
        let body = json!({ "amount": {"amount": 1_000, "currency": "KRW"}, "reason": "a scratch" });
        let back = self.post(&format!("{payment}/refunds"), "refunded", body).await?;
        ensure!(back.status == 201, "{}", back.json());
        Ok(())
    }
}

/// Backup and restore of a database, as a DBA does them. No agent runs meanwhile.
trait Backup {
    async fn keep(&self) -> Result<()>;
    async fn put_back(&self) -> Result<()>;
}

/// Backup of an SQLite file, as a copy beside it.
struct OfFile(PathBuf);

impl OfFile {
    fn copy(&self, from: &str, to: &str) -> Result<()> {
        for more in ["", "-wal", "-shm"] {
            let path = |name: &str| self.0.with_file_name(format!("{name}{more}"));
            if path(to).exists() {
                fs::remove_file(path(to))?;
            }
            if path(from).exists() {
                fs::copy(path(from), path(to))?;
            }
        }
        Ok(())
    }
}

impl Backup for OfFile {
    async fn keep(&self) -> Result<()> {
        self.copy("ledger.db", "kept.db")
    }

    async fn put_back(&self) -> Result<()> {
        self.copy("kept.db", "ledger.db")
    }
}

/// Backup of a PostgreSQL database, as a second database.
struct OfPostgres(Postgres);

impl Backup for OfPostgres {
    async fn keep(&self) -> Result<()> {
        self.0.create_database_like("kept", "ledger").await.map(drop)
    }

    async fn put_back(&self) -> Result<()> {
        let mut dba = self.0.connect("postgres").await?;
        sqlx::query("DROP DATABASE ledger WITH (FORCE)").execute(&mut dba).await?;
        sqlx::query("ALTER DATABASE kept RENAME TO ledger").execute(&mut dba).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_sqlite_file_lacks_that_was_put_back_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("idc").join("ledger.db");
    put_back(dir.path(), Database::Sqlite(file.clone()), &OfFile(file)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_postgresql_lacks_that_was_put_back_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (cluster, database) = postgres().await?;
    put_back(dir.path(), database, &OfPostgres(cluster)).await
}

async fn put_back(dir: &Path, database: Database, backup: &impl Backup) -> Result<()> {
    let site = site_on(dir, database, &["shoes"]).await?;
    let _gateway = TestGateway::open(&site, Rates::default()).await?;
    let (shop, client) =
        (Shop::open(&site, "shoes"), bridge_tests::testkit::http::Client::new(site.storefront));
    let mut customer = Customer { site, shop, client };

    let mut bridge = customer.site.start().await?;
    let (kept, cancelled, paid) = (customer.order().await?, customer.order().await?, customer.order().await?);
    let payment = customer.pay(&kept).await?;
    let last_one = customer.shop.place_new(&[(2, 1)]).await?;
    ensure!(last_one.status == 201, "{}", last_one.status);
    end(&mut bridge).await?;
    backup.keep().await?;

    let mut bridge = customer.site.start().await?;
    let mut lost = Lost::new();
    for _ in 0..3 {
        lost.insert((customer.order().await?, "order".to_owned()));
    }
    let answer = customer.shop.cancel(&cancelled, "not-needed").await?;
    ensure!(answer.status == 200, "{}", answer.status);
    lost.insert((cancelled, "cancellation".to_owned()));
    customer.pay(&paid).await?;
    lost.insert((paid, "payment".to_owned()));
    customer.refund(&payment).await?;
    lost.insert((kept, "refund".to_owned()));
    let sold_out = customer.shop.place_new(&[(2, 1)]).await?;
    ensure!(sold_out.status == 409, "{}", sold_out.status);
    end(&mut bridge).await?;

    // Every request is in the ledger and in the log.
    let requests = 4 + 1 + 3 + 1 + 1 + 1 + 1;
    let told = compare(&customer.site, &["--json"])?;
    let json = told.json()?;
    ensure!(told.code == Some(0) && json["agreed"] == requests, "{json} {}", told.error);
    ensure!(json["findings"] == json!([]) && json["before"] == 0 && json["after"] == 0, "{json}");

    backup.put_back().await?;
    lost_is_named(&customer, &lost, requests).await?;

    // The agents continue on the restored database, and a customer orders again.
    let mut bridge = customer.site.start().await?;
    let another = customer.order().await?;
    let told = compare(&customer.site, &["--json"])?;
    ensure!(told.code == Some(1), "{} {}", told.out, told.error);
    let all = told.found("lost")?;
    ensure!(lost.is_subset(&all) && all.len() == lost.len() + 1, "{all:?}");
    ensure!(!all.iter().any(|(order, _)| *order == another), "{all:?}");
    end(&mut bridge).await?;
    what_a_dba_changed_is_named(&customer, &another).await
}

/// Checks that the lost requests are named. The log has no order id for the sold-out order, so its
/// line cannot be predicted.
async fn lost_is_named(customer: &Customer, lost: &Lost, requests: u64) -> Result<()> {
    let Customer { site, shop, .. } = customer;
    let (folder, key) = (audits::folder(&site.idc_dir()), audits::key(&site.idc).await?);
    let folder = folder.display().to_string();
    for more in [&["--json"][..], &["--json", &folder, "--key", &key]] {
        let told = compare(site, more)?;
        let json = told.json()?;
        ensure!(told.code == Some(1) && json["verified"] == true, "{json} {}", told.error);
        let orders: Vec<_> =
            json["findings"].as_array().context("no list")?.iter().map(|one| &one["order"]).collect();
        ensure!(orders.is_sorted_by_key(|order| order.as_str()), "{json}");
        let found = told.found("lost")?;
        ensure!(lost.is_subset(&found), "{lost:?} {json}");
        let more: Vec<_> = found.difference(lost).collect();
        ensure!(more.len() == 1 && more[0].1 == "order", "the one that was sold out: {more:?}");
        ensure!(json["lost"] == found.len() && json["agreed"] == requests - found.len() as u64, "{json}");
        ensure!(json["otherwise"] == 0 && json["not_logged"] == 0 && json["in_doubt"] == 0, "{json}");
        ensure!(shop.needles().count(told.out.as_bytes()) == 0, "the output has personal data");
        ensure!(told.error.contains("the ledger and the logs differ"), "{}", told.error);
    }
    let told = compare(site, &[])?;
    for (order, about) in lost {
        let about = if about == "order" { String::new() } else { format!("{about} of ") };
        let line = format!("not in the ledger: {about}order {order} of shoes");
        ensure!(told.out.contains(&line), "{line}: {}", told.out);
    }
    let cloud_s = audits::folder(&site.cloud_dir()).display().to_string();
    let told = compare(site, &[&cloud_s])?;
    ensure!(told.code == Some(2) && told.error.contains("the log of a cloud agent"), "{}", told.error);
    Ok(())
}

/// A DBA changes an outcome, then deletes the order's row. Both are named.
async fn what_a_dba_changed_is_named(customer: &Customer, order: &str) -> Result<()> {
    let site = &customer.site;
    let before = compare(site, &["--json"])?;
    let mut dba = Dba::connect(site.database()).await?;
    let digits = order.replace('-', "");
    let id = match site.database() {
        Database::Sqlite(_) => format!("x'{digits}'"),
        Database::Postgres { .. } => format!("'{order}'"),
    };
    dba.execute(&format!("UPDATE outcomes SET outcome = 'sold-out' WHERE order_id = {id}")).await?;
    let told = compare(site, &["--json"])?;
    let expected = Lost::from([(order.to_owned(), "order".to_owned())]);
    ensure!(told.found("otherwise")? == expected, "{}", told.out);
    for table in ["order_lines", "order_personal"] {
        dba.execute(&format!("DELETE FROM {table} WHERE order_id = {id}")).await?;
    }
    dba.execute(&format!("DELETE FROM orders WHERE order_id = {id}")).await?;
    dba.execute(&format!("UPDATE outcomes SET outcome = 'placed' WHERE order_id = {id}")).await?;
    dba.close().await?;
    let told = compare(site, &["--json"])?;
    ensure!(told.found("otherwise")?.is_empty(), "{}", told.out);
    let more: Lost = told.found("lost")?.difference(&before.found("lost")?).cloned().collect();
    ensure!(more == expected, "{more:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_words_that_an_sqlite_file_lost_are_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("idc").join("ledger.db");
    operators_words(dir.path(), Database::Sqlite(file.clone()), &OfFile(file)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_words_that_a_postgresql_lost_are_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (cluster, database) = postgres().await?;
    operators_words(dir.path(), database, &OfPostgres(cluster)).await
}

/// A restore removes an operator's decisions, so the ledger is in doubt again. `compare` names the
/// decisions to repeat, and the commands for them.
async fn operators_words(dir: &Path, database: Database, backup: &impl Backup) -> Result<()> {
    let site = site_on(dir, database, &["shoes"]).await?;
    let TestGateway { sandbox } = TestGateway::open(&site, Rates::default()).await?;
    for (name, value) in [("retry_first", "1h"), ("retry_max", "2h")] {
        configure(&site.idc_dir().join("bridge-idc.toml"), &format!("payments.{name}"), value)?;
    }
    let (shop, client) =
        (Shop::open(&site, "shoes"), bridge_tests::testkit::http::Client::new(site.storefront));
    let mut customer = Customer { site, shop, client };
    let mut bridge = customer.site.start().await?;
    let (before, unpaid, paid) = (customer.order().await?, customer.order().await?, customer.order().await?);
    let of_before = customer.doubt(&before, &sandbox).await?;
    let not_paid = customer.doubt(&unpaid, &sandbox).await?;
    let place = customer.pay(&paid).await?;
    let payment = place.rsplit('/').next().context("no id")?.to_owned();
    let refund = customer.doubtful_refund(&place, &sandbox).await?;
    let resolve = |payment: &str, more: &str| {
        let words: Vec<_> = ["payments", "resolve", payment].into_iter().chain(more.split(' ')).collect();
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let said_before = resolve(&of_before, "--as not-paid --reason TICKET_1");
    let said = [
        resolve(&not_paid, "--as not-paid --reason TICKET_2"),
        resolve(&payment, &format!("--refund {refund} --as paid --reason TICKET_3")),
    ];
    // The gateway may be working on a request after its time-out. That time is over.
    let mut dba = Dba::connect(customer.site.database()).await?;
    dba.execute("UPDATE payments SET confirm_until = 1 WHERE state = 'unknown'").await?;
    dba.close().await?;
    say(&customer.site, &said_before).await?;
    end(&mut bridge).await?;
    backup.keep().await?;
    for word in &said {
        say(&customer.site, word).await?;
    }
    let told = compare(&customer.site, &["--json"])?;
    ensure!(told.code == Some(0) && told.json()?["findings"] == json!([]), "{} {}", told.out, told.error);

    backup.put_back().await?;
    let told = compare(&customer.site, &["--json"])?;
    let words = Lost::from([unpaid, paid].map(|order| (order, "resolution".to_owned())));
    ensure!(told.code == Some(1) && told.found("lost")? == words, "{} {}", told.out, told.error);
    let json = told.json()?;
    let all = json["findings"].as_array().context("no list")?.iter();
    let of_refund = all.filter(|one| one["refund"] == *refund).collect::<Vec<_>>();
    ensure!(of_refund.len() == 1 && of_refund[0]["payment"] == *payment, "{json}");
    ensure!(of_refund[0]["reason"] == "TICKET_3" && of_refund[0]["ledger"] == "unknown", "{json}");
    let told = compare(&customer.site, &[])?;
    for word in &said {
        let line = format!("(log: {}; ledger: unknown)", word.join(" "));
        ensure!(told.out.contains(&line), "{line}: {}", told.out);
    }
    ensure!(!told.out.contains("TICKET_1"), "{}", told.out);

    for word in &said {
        say(&customer.site, word).await?;
    }
    let told = compare(&customer.site, &["--json"])?;
    ensure!(told.code == Some(0) && told.json()?["findings"] == json!([]), "{} {}", told.out, told.error);
    Ok(())
}

async fn say(site: &Site, word: &[String]) -> Result<()> {
    let arguments: Vec<&str> = word.iter().map(String::as_str).collect();
    site.idc_command(&arguments).await.map(drop)
}

#[tokio::test]
async fn a_comparison_that_cannot_go_on_tells_that_it_is_cut() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("idc").join("ledger.db");
    let site = site_on(dir.path(), Database::Sqlite(file), &["shoes"]).await?;
    let mut bridge = site.start().await?;
    ensure!(Shop::open(&site, "shoes").place_new(&[(0, 1)]).await?.status == 201);
    end(&mut bridge).await?;
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute("UPDATE outcomes SET outcome = 'sold-out'").await?;
    // The command reads orders first and payments second.
    dba.execute("ALTER TABLE payment_requests RENAME TO moved").await?;
    dba.close().await?;

    let told = compare(&site, &["--json"])?;
    let json = told.json()?;
    ensure!(
        told.code == Some(2) && json["cut"] == true && json["agreed"].is_null(),
        "{:?} {json}",
        told.code
    );
    ensure!(json["findings"].as_array().is_some_and(|findings| findings.len() == 1), "{json}");
    let told = compare(&site, &[])?;
    ensure!(
        told.code == Some(2) && told.out.contains("otherwise in the ledger"),
        "{:?} {}",
        told.code,
        told.out
    );
    ensure!(told.error.contains("what is told so far is not all"), "{}", told.error);
    Ok(())
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_differs_from_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("idc").join("ledger.db");
    let site = site_on(dir.path(), Database::Sqlite(file.clone()), &["shoes"]).await?;
    let mut bridge = site.start().await?;
    ensure!(Shop::open(&site, "shoes").place_new(&[(0, 1)]).await?.status == 201);
    end(&mut bridge).await?;
    ensure!(compare(&site, &[])?.code == Some(0));

    fs::rename(&file, file.with_file_name("moved"))?;
    let told = compare(&site, &[])?;
    ensure!(
        told.code == Some(2) && told.error.contains("there is no ledger"),
        "{:?} {}",
        told.code,
        told.error
    );
    ensure!(!file.exists(), "the command made a ledger");
    fs::write(&file, "")?;
    let told = compare(&site, &[])?;
    ensure!(
        told.code == Some(2) && told.error.contains("run bridge-idc migrate"),
        "{:?} {}",
        told.code,
        told.error
    );
    fs::write(&file, "this is no database, and it is long enough to be looked at as one: ".repeat(100))?;
    let told = compare(&site, &[])?;
    ensure!(told.code == Some(2), "{:?} {}", told.code, told.error);
    Ok(())
}
