//! Tests end to end of the ways in which a payment's doubt ends: a hint after which the agent asks
//! the gateway, or an operator's decision. Further tests are about money that moves after a payment
//! was given up.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::sandbox::{Mischief, Webhooks};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Checkout, TOTAL, amount, charged, place};
use crate::common::{configure, metric, until};

/// Opens a shop whose agent asks the gateway by itself only after an hour. Before that, a webhook
/// or an operator must end a doubt.
async fn asking_in_an_hour() -> Result<Checkout> {
    Checkout::open_with(|site| {
        let config = site.idc_dir().join("bridge-idc.toml");
        configure(&config, "payments.retry_first", "1h")?;
        configure(&config, "payments.retry_max", "2h")
    })
    .await
}

#[tokio::test]
async fn webhooks_that_are_forged_change_nothing_but_when_is_asked() -> Result<()> {
    let mut at = asking_in_an_hour().await?;
    let order = at.order().await?;
    at.sandbox.next([Mischief::HangBefore]);
    let doubt = at.pay(&order, "p").await?;
    ensure!(doubt.status == 202, "{:?}", doubt.json());
    // A forged webhook only makes the agent ask the gateway, and the gateway's answer counts.
    at.sandbox.set_status(&order, "EXPIRED");
    let mut client = Client::new(at.webhooks);
    for body in [
        "",
        "not JSON",
        "[]",
        r#"{"data": {"orderId": "1' OR '1'='1"}}"#,
        r#"{"data": {"orderId": "0193e4a2-0000-7000-8000-000000000001", "status": "DONE"}}"#,
    ] {
        ensure!(client.post("/", None, None, body.to_owned().into()).await?.status == 200, "{body}");
    }
    ensure!(client.get("/", None).await?.status == 405);
    let large = vec![b' '; 70 * 1024];
    let answer = Client::new(at.webhooks).post("/", None, None, large.into()).await;
    ensure!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 413));
    let forged = json!({ "data": { "orderId": order, "status": "DONE" } }).to_string();
    for _ in 0..3 {
        Client::new(at.webhooks).post("/", None, None, forged.clone().into()).await?;
    }
    at.stands(&place(&doubt)?, "not_paid").await?;
    let text = at.bridge.idc.metrics().await?;
    ensure!(metric(&text, "bridge_webhooks_total{use=\"hint\"}")? >= 1);
    ensure!(metric(&text, "bridge_webhooks_total{use=\"ignored\"}")? >= 5);
    Ok(())
}

#[tokio::test]
async fn webhooks_end_a_doubt_in_any_order_and_number() -> Result<()> {
    let mut at = asking_in_an_hour().await?;
    at.sandbox.tell(Webhooks { to: at.webhooks, duplicate: true, reorder: true });
    let orders = [at.order().await?, at.order().await?];
    let mut doubts = Vec::new();
    for order in &orders {
        at.sandbox.next([Mischief::Held]);
        let doubt = at.pay(order, order).await?;
        ensure!(doubt.status == 202 && doubt.json()["state"] == "unknown", "{:?}", doubt.json());
        doubts.push(place(&doubt)?);
    }
    let asked = metric(&at.bridge.idc.metrics().await?, "bridge_gateway_seconds_count")?;
    ensure!(at.sandbox.charges().is_empty(), "the gateway has already handled the payments");
    // The gateway handles the payments now. Only its webhooks inform the agent, which would ask by
    // itself in an hour.
    at.sandbox.let_go();
    for (order, place) in orders.iter().zip(&doubts) {
        at.stands(place, "paid").await?;
        ensure!(charged(&at.sandbox, order) == 1);
    }
    let text = at.bridge.idc.metrics().await?;
    ensure!(metric(&text, "bridge_webhooks_total{use=\"hint\"}")? >= 2, "{text}");
    let asked = metric(&text, "bridge_gateway_seconds_count")? - asked;
    ensure!((2..=4).contains(&asked), "four webhooks came, and the gateway was asked {asked} times");
    Ok(())
}

impl Checkout {
    /// Ends the time in which the gateway may be working on requests to charge.
    pub(super) async fn no_charge_is_on_its_way(&self) -> Result<()> {
        let mut shell = Dba::connect(self.site.database()).await?;
        shell.execute("UPDATE payments SET confirm_until = 1 WHERE state = 'unknown'").await.map(drop)
    }
}

#[tokio::test]
async fn an_operator_ends_a_doubt_that_the_gateway_does_not_end() -> Result<()> {
    let mut at = asking_in_an_hour().await?;
    let order = at.order().await?;
    at.sandbox.next([Mischief::HangBefore]);
    let doubt = at.pay(&order, "p").await?;
    ensure!(doubt.status == 202);
    let id = doubt.json()["payment"].as_str().context("no id")?.to_owned();
    let early = at.refund(&place(&doubt)?, "early", 1).await?;
    ensure!(at.shop.problem(&early, 409, "payment-in-progress")?["payment"] == id);
    let another = at.pay(&order, "another").await?;
    let problem = at.shop.problem(&another, 409, "payment-in-progress")?;
    ensure!(problem["payment"] == id, "the problem names the payment in doubt: {problem}");
    let listed = at.site.idc_command(&["payments", "list", "--unknown"]).await?;
    ensure!(listed.contains(&id), "{listed}");
    let wrong = at
        .site
        .idc_command(&["payments", "resolve", &id, "--as", "not-paid", "--reason", "he said so"])
        .await;
    ensure!(wrong.is_err_and(|error| format!("{error:#}").contains("--reason must be a code")));
    let not_paid = ["payments", "resolve", &id, "--as", "not-paid", "--reason", "TICKET_4711", "--json"];
    let early = at.site.idc_command(&not_paid).await;
    ensure!(early.is_err_and(|error| format!("{error:#}").contains("under way there, until")));
    at.no_charge_is_on_its_way().await?;
    let resolved = at.site.idc_command(&not_paid).await?;
    let resolved: Value = serde_json::from_str(&resolved)?;
    ensure!(resolved["state"] == "not_paid" && resolved["code"] == "TICKET_4711", "{resolved}");
    let again = at.pay(&order, "p").await?;
    let problem = at.shop.problem(&again, 402, "payment-declined")?;
    ensure!(problem["code"] == "TICKET_4711");
    let twice = at.site.idc_command(&["payments", "resolve", &id, "--as", "paid", "--reason", "NO"]).await;
    ensure!(twice.is_err_and(|error| format!("{error:#}").contains("only what is unknown")));
    let shown = at.site.idc_command(&["payments", "show", &id]).await?;
    ensure!(shown.contains(&order), "{shown}");
    let committed = at.audited("payment-committed").await?;
    ensure!(committed == ["unknown", "not_paid", "not_paid"], "{committed:?}");

    // A decision also ends a refund's doubt, and the log names the operator.
    let order = at.order().await?;
    let paid = place(&at.pay(&order, "p2").await?)?;
    at.sandbox.next([Mischief::HangAfter]);
    ensure!(at.refund(&paid, "r", 1_000).await?.status == 202);
    let listed = at.site.idc_command(&["payments", "list", "--unknown", "--json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let text = |value: &Value| Ok::<_, anyhow::Error>(value.as_str().context("no id")?.to_owned());
    let (id, refund) =
        (text(&listed["payments"][0]["payment"])?, text(&listed["payments"][0]["refunds"][0]["refund"])?);
    let resolve = ["payments", "resolve", &id, "--as", "paid", "--reason", "TICKET_4712", "--refund"];
    let strange = at.site.idc_command(&[&resolve[..], &[&order]].concat()).await;
    ensure!(strange.is_err_and(|error| format!("{error:#}").contains("no such refund")));
    let resolved = at.site.idc_command(&[&resolve[..], &[&refund]].concat()).await?;
    ensure!(resolved.contains("done  TICKET_4712") && resolved.contains("partially_refunded"), "{resolved}");
    let listed = at.site.idc_command(&["payments", "list", "--unknown", "--json"]).await?;
    ensure!(listed.trim() == r#"{"payments":[]}"#, "{listed}");
    ensure!(at.audited("payment-resolved").await? == ["not_paid", "done"]);
    let said = at.site.idc_command(&["audit", "tail", "--json", "--kind", "payment-resolved"]).await?;
    let said: Value = serde_json::from_str(said.lines().last().context("nothing was logged")?)?;
    let facts = &said["entry"]["facts"];
    ensure!(facts["refund"] == *refund && facts["reason"] == "TICKET_4712", "{said}");
    let uid = format!("uid:{}", rustix::process::getuid().as_raw());
    ensure!(
        facts["who"].as_str().is_some_and(|who| who.starts_with(&uid)),
        "the user id does not come from the kernel: {said}"
    );
    at.agree().await
}

/// The agent is stopped, so it runs but does not answer. The command names this agent and holds no
/// lock of the ledger while it waits. The agent logs no decision when it runs again.
#[tokio::test]
async fn an_operators_decision_beside_a_hanging_agent_holds_and_leaves_nothing() -> Result<()> {
    let mut at = asking_in_an_hour().await?;
    let order = at.order().await?;
    at.sandbox.next([Mischief::HangBefore]);
    let doubt = at.pay(&order, "p").await?;
    let id = doubt.json()["payment"].as_str().context("no id")?.to_owned();
    let resolve = |reason| ["payments", "resolve", &id, "--as", "not-paid", "--reason", reason];
    at.no_charge_is_on_its_way().await?;
    let mut shell = Dba::connect(at.site.database()).await?;
    shell.execute("PRAGMA busy_timeout = 1000").await?;

    let agent = at.bridge.idc.pid().context("the agent has ended")?;
    stop_outside_its_transactions(agent, &mut shell).await?;
    let early = resolve("TOO_EARLY");
    let mut command = Box::pin(at.site.idc_command(&early));
    let said = loop {
        tokio::select! {
            said = &mut command => break said,
            // Checks that another writer is never kept waiting.
            () = sleep(Duration::from_millis(20)) => {
                shell.execute("BEGIN IMMEDIATE; ROLLBACK").await.context("the command holds the ledger's lock")?;
            }
        }
    };
    drop(command);
    kill_process(agent, Signal::CONT)?;
    let said = format!("{:#}", said.err().context("the decision was committed without a log entry")?);
    ensure!(said.contains("audit log and does not answer") && !said.contains("database"), "{said}");
    ensure!(at.shop.get(&place(&doubt)?).await?.json()["state"] == "unknown");

    // The agent handles the first command before the next one.
    at.site.idc_command(&resolve("TICKET_4711")).await?;
    let said = at.site.idc_command(&["audit", "tail", "--json", "--kind", "payment-resolved"]).await?;
    ensure!(
        said.lines().count() == 1 && said.contains("TICKET_4711"),
        "the log has a decision that was not carried out: {said}"
    );
    ensure!(at.audited("payment-committed").await? == ["unknown", "not_paid"]);
    at.agree().await
}

/// Stops an agent while it does not hold the lock of an SQLite ledger. It takes this lock every
/// second to renew its lease of the catalogue, and a stopped agent would keep it.
async fn stop_outside_its_transactions(agent: Pid, shell: &mut Dba) -> Result<()> {
    until("the agent is stopped outside its transactions", async || {
        kill_process(agent, Signal::STOP)?;
        until("all threads are stopped", async || {
            for thread in std::fs::read_dir(format!("/proc/{}/task", agent.as_raw_nonzero()))? {
                let status = std::fs::read_to_string(thread?.path().join("status"))?;
                if !status.contains("State:\tT") {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await?;
        let is_free = shell.execute("BEGIN IMMEDIATE; ROLLBACK").await.is_ok();
        if !is_free {
            kill_process(agent, Signal::CONT)?;
        }
        Ok(is_free)
    })
    .await
}

#[tokio::test]
async fn a_charge_after_giving_up_is_refunded_and_reported_at_each_step() -> Result<()> {
    let mut at = asking_in_an_hour().await?;
    let order = at.order().await?;
    at.sandbox.next([Mischief::Held]);
    let doubt = at.pay(&order, "p").await?;
    ensure!(doubt.status == 202, "{:?}", doubt.json());
    let id = doubt.json()["payment"].as_str().context("no id")?.to_owned();
    at.no_charge_is_on_its_way().await?;
    at.site.idc_command(&["payments", "resolve", &id, "--as", "not-paid", "--reason", "TICKET_4711"]).await?;
    let given_up = at.pay(&order, "p").await?;
    at.shop.problem(&given_up, 402, "payment-declined")?;
    // The gateway finally handles the request that hung, and reports it. The refund's answer is
    // lost.
    at.sandbox.let_go();
    at.sandbox.next([Mischief::Fine, Mischief::FailAfter]);
    let hint = json!({ "data": { "orderId": order } }).to_string();
    Client::new(at.webhooks).post("/", None, None, hint.into()).await?;
    let late = at.stands(&place(&doubt)?, "charged_late").await?;
    ensure!(late["refunds"][0]["automatic"] == true, "{late}");
    let listed = at.site.idc_command(&["payments", "list", "--unknown"]).await?;
    ensure!(listed.contains(&id) && listed.contains("charged_late"), "{listed}");
    let text = at.bridge.idc.metrics().await?;
    ensure!(metric(&text, "bridge_payments_total{outcome=\"charged_late\"}")? == 1);
    let told = at.pay(&order, "p").await?;
    let told = at.shop.problem(&told, 402, "payment-declined")?;
    ensure!(told["detail"].as_str().is_some_and(|detail| detail.contains("goes back by itself")), "{told}");
    let body = json!({ "amount": amount(TOTAL, "KRW"), "payment_key": "tgen_another" });
    let again = at.post(&format!("{}/{order}/payments", at.shop.orders()), "p2", &body).await?;
    at.shop.problem(&again, 409, "order-not-payable")?;
    let refund = late["refunds"][0]["refund"].as_str().context("no refund")?.to_owned();
    let resolve =
        ["payments", "resolve", &id, "--refund", &refund, "--as", "paid", "--reason", "TICKET_4712"];
    at.site.idc_command(&resolve).await?;
    at.stands(&place(&doubt)?, "returned").await?;
    ensure!(at.sandbox.charges()[0].cancels == [TOTAL], "{:?}", at.sandbox.charges());
    let committed = at.audited("payment-committed").await?;
    let steps = ["unknown", "not_paid", "not_paid", "charged_late", "charged_late", "returned"];
    ensure!(committed == steps, "{committed:?}");
    at.agree().await
}

#[tokio::test]
async fn an_operator_ends_a_late_charge_that_the_gateway_keeps() -> Result<()> {
    let mut at = asking_in_an_hour().await?;
    let order = at.order().await?;
    at.sandbox.next([Mischief::Held]);
    let doubt = at.pay(&order, "p").await?;
    let id = doubt.json()["payment"].as_str().context("no id")?.to_owned();
    at.no_charge_is_on_its_way().await?;
    at.site.idc_command(&["payments", "resolve", &id, "--as", "not-paid", "--reason", "TICKET_4711"]).await?;
    at.sandbox.let_go();
    at.sandbox.next([Mischief::Fine, Mischief::Decline]);
    let hint = json!({ "data": { "orderId": order } }).to_string();
    Client::new(at.webhooks).post("/", None, None, hint.into()).await?;
    let place = place(&doubt)?;
    until("the gateway has refused", async || {
        Ok(at.shop.get(&place).await?.json()["refunds"][0]["state"] == "refused")
    })
    .await?;

    // The list of payments that need an operator shows the payment, with the refund to name in the
    // command.
    let listed = at.site.idc_command(&["payments", "list", "--unknown"]).await?;
    let shown: Value =
        serde_json::from_str(&at.site.idc_command(&["payments", "show", &id, "--json"]).await?)?;
    let refund = shown["refunds"][0]["refund"].as_str().context("no refund")?.to_owned();
    ensure!(shown["state"] == "charged_late" && listed.contains(&id) && listed.contains(&refund), "{listed}");
    let resolve = ["payments", "resolve", &id, "--reason", "TICKET_4712"];
    for (wrong, told) in [
        (vec!["--as", "paid"], "--refund REFUND --as paid"),
        (vec!["--refund", &refund, "--as", "not-paid"], "its state is refused"),
    ] {
        let refused = at.site.idc_command(&[&resolve[..], &wrong].concat()).await;
        ensure!(refused.as_ref().is_err_and(|error| format!("{error:#}").contains(told)), "{refused:?}");
    }
    let resolved =
        at.site.idc_command(&[&resolve[..], &["--refund", &refund, "--as", "paid"]].concat()).await?;
    ensure!(resolved.contains("returned") && resolved.contains("automatic, done  TICKET_4712"), "{resolved}");
    let told = at.shop.get(&place).await?.json();
    ensure!(told["state"] == "returned" && told["refunded"] == amount(TOTAL, "KRW"), "{told}");
    let listed = at.site.idc_command(&["payments", "list", "--unknown", "--json"]).await?;
    ensure!(listed.trim() == r#"{"payments":[]}"#, "{listed}");
    until("the metric no longer counts it", async || {
        Ok(metric(&at.bridge.idc.metrics().await?, "bridge_payments_charged_late")? == 0)
    })
    .await?;
    ensure!(at.sandbox.charges()[0].cancels.is_empty(), "the gateway gave something back");

    let committed = at.audited("payment-committed").await?;
    ensure!(committed == ["unknown", "not_paid", "charged_late", "refused", "returned"], "{committed:?}");
    let said = at.site.idc_command(&["audit", "tail", "--json", "--kind", "payment-resolved"]).await?;
    let said: Value = serde_json::from_str(said.lines().last().context("nothing was logged")?)?;
    let facts = &said["entry"]["facts"];
    ensure!(facts["refund"] == *refund && facts["outcome"] == "returned", "{said}");
    ensure!(facts["reason"] == "TICKET_4712" && facts["who"].is_string(), "{said}");
    at.agree().await
}

/// The gateway may still carry out a request that the agent has given up. Until that time is over,
/// nobody may say that nothing went back.
#[tokio::test]
async fn a_refund_is_not_called_refused_while_it_may_be_under_way() -> Result<()> {
    let mut at = asking_in_an_hour().await?;
    let order = at.order().await?;
    let paid = place(&at.pay(&order, "p").await?)?;
    at.sandbox.next([Mischief::Held]);
    ensure!(at.refund(&paid, "r", TOTAL).await?.status == 202, "the gateway answered");
    let listed = at.site.idc_command(&["payments", "list", "--unknown", "--json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let text = |value: &Value| Ok::<_, anyhow::Error>(value.as_str().context("no id")?.to_owned());
    let payment = &listed["payments"][0];
    let (id, refund) = (text(&payment["payment"])?, text(&payment["refunds"][0]["refund"])?);
    let resolve = ["payments", "resolve", &id, "--refund", &refund, "--reason", "TICKET_4711", "--as"];
    let early = at.site.idc_command(&[&resolve[..], &["not-paid"]].concat()).await;
    let told = format!("{:#}", early.err().context("the command called the refund refused")?);
    ensure!(told.contains("may be on its way to the gateway until 20") && told.contains("console"), "{told}");
    ensure!(at.audited("payment-resolved").await?.is_empty(), "a decision was logged");
    // The refund still counts, so no other refund takes its place. When the gateway carries out the
    // request after all, the money goes back once.
    let another = at.refund(&paid, "r2", TOTAL).await?;
    at.shop.problem(&another, 409, "refund-too-large")?;
    at.sandbox.let_go();
    let resolved = at.site.idc_command(&[&resolve[..], &["paid"]].concat()).await?;
    ensure!(resolved.contains("refunded") && resolved.contains("done  TICKET_4711"), "{resolved}");
    ensure!(at.sandbox.charges()[0].cancels == [TOTAL], "{:?}", at.sandbox.charges());

    // A refund that never reached the gateway can be ended once its time is over.
    let order = at.order().await?;
    let paid = place(&at.pay(&order, "p2").await?)?;
    at.sandbox.next([Mischief::HangBefore]);
    ensure!(at.refund(&paid, "r3", 1_000).await?.status == 202);
    let mut shell = Dba::connect(at.site.database()).await?;
    shell.execute("UPDATE refunds SET give_back_until = 1").await?;
    let listed = at.site.idc_command(&["payments", "list", "--unknown", "--json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let payment = &listed["payments"][0];
    let (id, refund) = (text(&payment["payment"])?, text(&payment["refunds"][0]["refund"])?);
    let resolve = ["payments", "resolve", &id, "--refund", &refund, "--reason", "TICKET_4712", "--as"];
    let resolved = at.site.idc_command(&[&resolve[..], &["not-paid"]].concat()).await?;
    ensure!(resolved.contains("refused  TICKET_4712"), "{resolved}");
    ensure!(at.refund(&paid, "r4", TOTAL).await?.status == 201, "another refund of the money was refused");
    at.agree().await
}

#[tokio::test]
async fn an_operator_ends_a_refused_refund_that_was_partly_repaid() -> Result<()> {
    let mut at = asking_in_an_hour().await?;
    let order = at.order().await?;
    let paid = place(&at.pay(&order, "p").await?)?;
    at.sandbox.next([Mischief::Decline]);
    ensure!(at.shop.cancel(&order, "c").await?.status == 200);
    let hint = json!({ "data": { "orderId": order } }).to_string();
    Client::new(at.webhooks).post("/", None, None, hint.into()).await?;
    until("the gateway has refused", async || {
        Ok(at.shop.get(&paid).await?.json()["refunds"][0]["state"] == "refused")
    })
    .await?;
    ensure!(at.refund(&paid, "r", 22_000).await?.status == 201, "the shop's partial refund was refused");
    let listed = at.site.idc_command(&["payments", "list", "--unknown", "--json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let payment = &listed["payments"][0];
    let refund = payment["refunds"].as_array().context("no refunds")?;
    let refused =
        refund.iter().find(|refund| refund["state"] == "refused").context("no refund is refused")?;
    let text = |value: &Value| Ok::<_, anyhow::Error>(value.as_str().context("no id")?.to_owned());
    let (id, refused) = (text(&payment["payment"])?, text(&refused["refund"])?);

    let resolve =
        ["payments", "resolve", &id, "--refund", &refused, "--as", "paid", "--reason", "TICKET_4711"];
    for wrong in [&[][..], &["--amount", "199999"], &["--amount", "222000"]] {
        let told = at.site.idc_command(&[&resolve[..], wrong].concat()).await;
        ensure!(
            told.as_ref().is_err_and(|error| format!("{error:#}").contains("--amount 200000")),
            "{wrong:?} {told:?}"
        );
    }
    let resolved = at.site.idc_command(&[&resolve[..], &["--amount", "200000"]].concat()).await?;
    ensure!(resolved.contains("refunded") && resolved.contains("automatic, done  TICKET_4711"), "{resolved}");
    let told = at.shop.get(&paid).await?.json();
    ensure!(told["state"] == "refunded" && told["refunded"] == amount(TOTAL, "KRW"), "{told}");
    let twice = at.site.idc_command(&[&resolve[..], &["--amount", "200000"]].concat()).await;
    ensure!(twice.is_err_and(|error| format!("{error:#}").contains("nothing is left")));
    let listed = at.site.idc_command(&["payments", "list", "--unknown", "--json"]).await?;
    ensure!(listed.trim() == r#"{"payments":[]}"#, "{listed}");
    ensure!(at.sandbox.charges()[0].cancels == [22_000], "the gateway gave more back");
    ensure!(at.audited("payment-resolved").await? == ["refunded"]);
    at.agree().await
}

/// The operator decided too early. The agent finds what the gateway had done by then, and reports
/// it.
#[tokio::test]
async fn a_refund_that_went_back_after_it_was_called_refused_is_found() -> Result<()> {
    let mut at = asking_in_an_hour().await?;
    let order = at.order().await?;
    let paid = place(&at.pay(&order, "p").await?)?;
    at.sandbox.next([Mischief::FailAfter]);
    let doubt = at.refund(&paid, "r", 1_000).await?;
    ensure!(doubt.status == 202, "{:?}", doubt.json());
    let text = |value: &Value| Ok::<_, anyhow::Error>(value.as_str().context("no id")?.to_owned());
    let (id, refund) = (text(&doubt.json()["payment"])?, text(&doubt.json()["refund"]["refund"])?);
    let mut shell = Dba::connect(at.site.database()).await?;
    shell.execute("UPDATE refunds SET give_back_until = 1").await?;
    let resolve =
        ["payments", "resolve", &id, "--refund", &refund, "--as", "not-paid", "--reason", "TICKET_4711"];
    at.site.idc_command(&resolve).await?;
    let refused = at.refund(&paid, "r", 1_000).await?;
    at.shop.problem(&refused, 409, "refund-refused")?;

    shell.execute("UPDATE refunds SET look_at = 1").await?;
    until("the agent has found the refund", async || {
        Ok(at.shop.get(&paid).await?.json()["refunds"][0]["state"] == "done")
    })
    .await?;
    let told = at.shop.get(&paid).await?.json();
    ensure!(told["state"] == "partially_refunded" && told["refunded"] == amount(1_000, "KRW"), "{told}");
    ensure!(at.sandbox.charges()[0].cancels == [1_000], "the agent requested the refund again");
    let metrics = at.bridge.idc.metrics().await?;
    ensure!(metric(&metrics, "bridge_refunds_total{outcome=\"given_back_late\"}")? == 1);
    let log = std::fs::read_to_string(&at.site.idc.log)?;
    ensure!(log.contains("it went back after it had been called refused") && log.contains(&refund));
    ensure!(at.audited("payment-committed").await? == ["paid", "unknown", "refused", "refused", "done"]);
    at.agree().await?;
    at.site.idc_command(&["audit", "compare"]).await.map(drop)
}
