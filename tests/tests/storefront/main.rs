//! Tests of what a storefront's developer does and sees: orders, reads, bad requests, slow callers,
//! the API document and the examples.

mod bad_fields;
mod bad_input;
mod bad_reads;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod launches;
mod openapi;
mod orders;
mod reads;
mod replica_equals_source;
mod slow_callers;
mod storefront_document;
