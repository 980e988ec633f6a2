//! Looks for every planted personal value in everything that the demo left on disk.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::plan::Plan;
use crate::postgres::Postgres;
use crate::search::Needles;
use crate::site::Site;

/// What the search found.
#[derive(Debug, Serialize)]
pub(super) struct Privacy {
    /// Personal values in all orders.
    pub(super) planted: u64,
    /// Those of them that the same search finds in the orders themselves: proof that it can find them.
    pub(super) found_in_the_orders: u64,
    /// Where they must not be.
    pub(super) places: Vec<Place>,
}

/// A place that was searched.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) what: &'static str,
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) found: u64,
}

impl Privacy {
    /// All that was found where nothing may be.
    pub(super) fn found(&self) -> u64 {
        self.places.iter().map(|place| place.found).sum()
    }

    /// Whether the search would have found a value that leaked.
    pub(super) fn can_find(&self) -> bool {
        self.found_in_the_orders >= self.planted && self.places.iter().all(|place| place.bytes > 0)
    }
}

/// Searches both sides and the line between them.
pub(super) fn search(site: &Site, cluster: Option<&Postgres>, plans: &[Arc<Plan>]) -> Result<Privacy> {
    let needles = Needles::new(plans.iter().flat_map(|plan| plan.planted()));
    let orders = plans.iter().flat_map(|plan| plan.places());
    let found_in_the_orders =
        orders.map(|(_, order)| needles.count(&order.body).min(order.planted.len() as u64)).sum();
    let mut places = vec![
        ("files of the cloud side", site.cloud_dir()),
        ("the cloud agent's log", site.cloud.log.clone()),
        ("the IDC agent's log", site.idc.log.clone()),
        ("bytes on the tunnel", site.captured()?),
        ("files of the IDC", site.idc_dir()),
    ];
    if let Some(cluster) = cluster {
        places.push(("files of PostgreSQL", cluster.data_dir()));
    }
    let places =
        places.into_iter().map(|(what, path)| place(&needles, what, &path)).collect::<Result<_>>()?;
    let planted = plans.iter().map(|plan| plan.planted().count() as u64).sum();
    Ok(Privacy { planted, found_in_the_orders, places })
}

fn place(needles: &Needles, what: &'static str, path: &Path) -> Result<Place> {
    let found = needles.search(path).with_context(|| format!("search {}", path.display()))?;
    let bytes = found.iter().map(|file| file.length).sum();
    Ok(Place { what, files: found.len(), bytes, found: found.iter().map(|file| file.hits).sum() })
}
