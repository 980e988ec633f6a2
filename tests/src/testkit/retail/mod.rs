//! The real invoices: one year of a gift shop, converted into orders and cancellations that Bridge
//! accepts.
//!
//! `read` loads the files, `classify` classifies each invoice, and `plan` makes the
//! [`Plan`](crate::testkit::plan::Plan). Each of the 25,900 invoices gets exactly one class. Each
//! line that is left out is counted with its reason.
//!
//! **Prices.** The shop sold one code at many prices, and Bridge checks the price of each line. So
//! each price is a SKU of its own: a code at its catalogue price keeps its name (`85123A`), and
//! another price is appended in pence (`85123A@230`).
//!
//! **Orders** have the lines with a positive price and quantity. Lines of the same SKU are summed.
//!
//! **Cancellations** (their number begins with C) cancel an earlier order of the same customer with
//! exactly their lines, the latest one that is not yet cancelled. The return of a part of an order
//! does not exist in Bridge and is left out.

mod classify;
mod plan;
mod read;

pub use classify::{Book, Class, LineReason, Reason};
pub use plan::plan;
pub use read::{Days, Invoice, InvoiceLine, ReadError, Retail, read};
