//! The statements on launches, and the checks before a launch is added.

use std::collections::BTreeSet;

use bridge_protocol::domain::{Brand, Sku, UnixMicros};

use super::{
    AddResult, EndResult, Launch, LaunchDraft, LaunchMistake, LaunchName, LaunchSku, LaunchState, NewLaunch,
};
use crate::database::{LedgerError, Transaction, common, each, in_transaction, on_connection, row};
use crate::orders::store::Ledger;

row! {
    /// A launch with its sales.
    struct LaunchRow {
        launch_id: i64,
        brand: String,
        launch: String,
        opens_at: i64,
        ends_at: Option<i64>,
        units: Option<i64>,
        customer_limit: i64,
        rate_per_s: Option<i64>,
        session_s: i64,
        claim_s: i64,
        ended_at: Option<i64>,
        sold: i64,
    }
}

row! {
    /// Another launch that sells a SKU at the same time.
    struct OverlapRow {
        sku: String,
        launch: String,
        opens_at: i64,
        ends_at: Option<i64>,
    }
}

/// Most launches that are listed.
const LISTED_MAX: i64 = 1_000;

/// Most launches that are ended at a time, so that their rows are held for a short time.
const ENDED_AT_ONCE: i64 = 100;

/// Adds a launch, unless something is wrong with it. First ends the launches that have ended by
/// themselves, which changes nothing but the time that batches need.
///
/// # Errors
///
/// Fails if the database does not answer or refuses the rows.
pub async fn add(ledger: &Ledger, new: &NewLaunch) -> Result<AddResult, LedgerError> {
    let database = ledger.database();
    // This is for the next batches alone, so a login without the right may leave it.
    if let Err(error) = in_transaction!(database, writing tx => end_past(tx).await) {
        let error = LedgerError::from(error);
        tracing::debug!(%error, "launches that have ended by themselves stay in the index of batches");
    }
    Ok(in_transaction!(database, writing tx => add_in(tx, new).await)?)
}

/// Returns what is wrong with a launch, and adds nothing.
///
/// # Errors
///
/// Fails if the database does not answer.
pub async fn check(ledger: &Ledger, draft: &LaunchDraft) -> Result<Vec<LaunchMistake>, LedgerError> {
    let database = ledger.database();
    Ok(in_transaction!(database, reading tx => mistakes(tx, draft).await)?)
}

/// Returns launches, those that open last first: of one brand and of one name, or of all.
///
/// # Errors
///
/// Fails if the database does not answer or a row is corrupt.
pub async fn list(
    ledger: &Ledger,
    brand: Option<&Brand>,
    name: Option<&LaunchName>,
) -> Result<Vec<Launch>, LedgerError> {
    let database = ledger.database();
    Ok(in_transaction!(database, reading tx => list_in(tx, brand, name).await)?)
}

/// Ends a launch now. Its SKUs then sell as any other does.
///
/// # Errors
///
/// Fails if the database does not answer.
pub async fn end(ledger: &Ledger, brand: &Brand, name: &LaunchName) -> Result<EndResult, LedgerError> {
    let database = ledger.database();
    Ok(in_transaction!(database, writing tx => end_in(tx, brand, name).await)?)
}

async fn add_in(tx: &mut Transaction, new: &NewLaunch) -> Result<AddResult, LedgerError> {
    let draft = LaunchDraft {
        brand: new.brand.clone(),
        name: Some(new.name.clone()),
        opens_at: Some(new.opens_at),
        ends_at: new.ends_at,
        skus: new.skus.iter().map(|sold| sold.sku.clone()).collect(),
    };
    let mistakes = mistakes(tx, &draft).await?;
    if !mistakes.is_empty() {
        return Ok(AddResult::Mistakes(mistakes));
    }
    let brand = new.brand.as_str();
    let launch_id: i64 = on_connection!(tx, connection => sqlx::query_scalar(common!("insert"))
        .bind(brand)
        .bind(new.name.as_str())
        .bind(new.opens_at.get())
        .bind(new.ends_at.map(UnixMicros::get))
        .bind(new.units)
        .bind(new.customer_limit)
        .bind(new.rate_per_s)
        .bind(new.session_s)
        .bind(new.claim_s)
        .fetch_one(connection).await?);
    let skus = new.skus.iter().map(|sold| serde_json::json!([sold.sku.as_str(), sold.customer_limit]));
    let (skus, sql) = (serde_json::Value::from_iter(skus).to_string(), tx.text(&each!("insert_skus")));
    on_connection!(tx, connection =>
        sqlx::query(sql).bind(launch_id).bind(brand).bind(skus).execute(connection).await.map(drop)?);
    let added = list_in(tx, Some(&new.brand), Some(&new.name)).await?;
    Ok(AddResult::Added(added.into_iter().next().ok_or(LedgerError::Conflict)?))
}

async fn mistakes(tx: &mut Transaction, draft: &LaunchDraft) -> Result<Vec<LaunchMistake>, LedgerError> {
    let mut mistakes = Vec::new();
    let now = clock(tx).await?;
    let (brand, name) = (draft.brand.as_str(), draft.name.as_ref().map(LaunchName::as_str));
    let (brands, taken): (i64, i64) = on_connection!(tx, connection =>
        sqlx::query_as(common!("taken")).bind(brand).bind(name).fetch_one(connection).await?);
    if brands == 0 {
        mistakes.push(LaunchMistake::UnknownBrand(draft.brand.clone()));
    }
    mistakes.extend(draft.name.clone().filter(|_| taken > 0).map(LaunchMistake::NameTaken));
    let skus = serde_json::Value::from_iter(draft.skus.iter().map(Sku::as_str)).to_string();
    if brands > 0 {
        let sql = tx.text(&each!("known_skus"));
        let known: Vec<String> = on_connection!(tx, connection =>
            sqlx::query_scalar(sql).bind(brand).bind(&skus).fetch_all(connection).await?);
        let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
        let unknown = draft.skus.iter().filter(|sku| !known.contains(sku.as_str()));
        let unknown: Vec<Sku> = unknown.cloned().collect();
        if !unknown.is_empty() {
            mistakes.push(LaunchMistake::UnknownSkus(unknown));
        }
    }
    let Some(opens_at) = draft.opens_at else { return Ok(mistakes) };
    if opens_at <= now {
        mistakes.push(LaunchMistake::OpensInThePast { opens_at, now });
    }
    if draft.ends_at.is_some_and(|ends_at| ends_at <= opens_at) {
        mistakes.push(LaunchMistake::EndsBeforeItOpens);
    }
    let (ends_at, sql) = (draft.ends_at.map(UnixMicros::get), tx.text(&each!("overlaps")));
    let overlaps: Vec<OverlapRow> = on_connection!(tx, connection =>
        sqlx::query_as(sql).bind(brand).bind(skus).bind(opens_at.get()).bind(ends_at).fetch_all(connection).await?);
    for OverlapRow { sku, launch, opens_at, ends_at } in overlaps {
        let sku = sku_of(&sku)?;
        let (opens_at, ends_at) = (UnixMicros::new(opens_at), ends_at.map(UnixMicros::new));
        mistakes.push(LaunchMistake::Overlap { sku, launch, opens_at, ends_at });
    }
    Ok(mistakes)
}

async fn list_in(
    tx: &mut Transaction,
    brand: Option<&Brand>,
    name: Option<&LaunchName>,
) -> Result<Vec<Launch>, LedgerError> {
    let now = clock(tx).await?;
    Ok(read(tx, brand, name, now).await?.into_iter().map(|(_, launch)| launch).collect())
}

/// Reads launches with their row ids.
async fn read(
    tx: &mut Transaction,
    brand: Option<&Brand>,
    name: Option<&LaunchName>,
    now: UnixMicros,
) -> Result<Vec<(i64, Launch)>, LedgerError> {
    let (brand, name) = (brand.map(Brand::as_str), name.map(LaunchName::as_str));
    let rows: Vec<LaunchRow> = on_connection!(tx, connection => sqlx::query_as(common!("list"))
        .bind(brand).bind(name).bind(LISTED_MAX).fetch_all(connection).await?);
    let mut launches = Vec::with_capacity(rows.len());
    for row in rows {
        let skus: Vec<(String, Option<i64>)> = on_connection!(tx, connection =>
            sqlx::query_as(common!("skus")).bind(row.launch_id).fetch_all(connection).await?);
        launches.push((row.launch_id, launch_of(row, skus, now)?));
    }
    Ok(launches)
}

async fn end_in(tx: &mut Transaction, brand: &Brand, name: &LaunchName) -> Result<EndResult, LedgerError> {
    let now = clock(tx).await?;
    let found = read(tx, Some(brand), Some(name), now).await?;
    let Some((launch_id, launch)) = found.into_iter().next() else { return Ok(EndResult::Unknown) };
    if launch.state == LaunchState::Ended {
        return Ok(EndResult::EndedBefore(launch));
    }
    let ended = on_connection!(tx, connection => sqlx::query(common!("end"))
        .bind(launch_id).bind(now.get()).execute(connection).await?.rows_affected());
    if ended == 0 {
        // Another operator ended it in the meantime. The next try sees that.
        return Err(LedgerError::Conflict);
    }
    Ok(EndResult::Ended(Launch { ended_at: Some(now), state: LaunchState::Ended, ..launch }))
}

/// Ends the launches that have ended by themselves.
async fn end_past(tx: &mut Transaction) -> Result<(), LedgerError> {
    let (now, sql) = (clock(tx).await?, tx.text(&each!("end_past")));
    on_connection!(tx, connection =>
        sqlx::query(sql).bind(now.get()).bind(ENDED_AT_ONCE).execute(connection).await.map(drop)?);
    Ok(())
}

/// Returns the present time by the database's clock.
async fn clock(tx: &mut Transaction) -> Result<UnixMicros, LedgerError> {
    let sql = tx.text(&each!("clock"));
    let now: i64 = on_connection!(tx, connection => sqlx::query_scalar(sql).fetch_one(connection).await?);
    Ok(UnixMicros::new(now))
}

fn launch_of(
    row: LaunchRow,
    skus: Vec<(String, Option<i64>)>,
    now: UnixMicros,
) -> Result<Launch, LedgerError> {
    let corrupt = |what| LedgerError::Corrupt { table: "launches", what };
    let skus =
        skus.into_iter().map(|(sku, customer_limit)| Ok(LaunchSku { sku: sku_of(&sku)?, customer_limit }));
    let facts = NewLaunch {
        brand: Brand::new(&row.brand).map_err(|_| corrupt("an invalid brand name"))?,
        name: LaunchName::new(&row.launch).ok_or_else(|| corrupt("an invalid name"))?,
        opens_at: UnixMicros::new(row.opens_at),
        ends_at: row.ends_at.map(UnixMicros::new),
        skus: skus.collect::<Result<_, LedgerError>>()?,
        units: row.units,
        customer_limit: row.customer_limit,
        rate_per_s: row.rate_per_s,
        session_s: row.session_s,
        claim_s: row.claim_s,
    };
    let has_ended = row.ended_at.is_some() || facts.ends_at.is_some_and(|at| at <= now);
    let state = match facts.opens_at <= now {
        _ if has_ended => LaunchState::Ended,
        true => LaunchState::Open,
        false => LaunchState::Announced,
    };
    Ok(Launch { facts, ended_at: row.ended_at.map(UnixMicros::new), sold: row.sold, state })
}

fn sku_of(sku: &str) -> Result<Sku, LedgerError> {
    Sku::new(sku).ok_or(LedgerError::Corrupt { table: "skus", what: "an invalid SKU" })
}
