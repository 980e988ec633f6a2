//! Compares each brand's currency in the configuration with the ledger's. The two settings must
//! agree, because an order in another currency is refused.
//!
//! The ledger's currency comes with the catalogue. `check` reads the last snapshot, and a running
//! agent uses the catalogue that it serves.

use std::collections::BTreeMap;
use std::path::Path;

use bridge_protocol::domain::{Brand, Currency};

use crate::replica::replica_rows;
use crate::replica::snapshot;

/// Currencies by brand.
pub type Currencies = BTreeMap<Brand, Currency>;

/// Returns one sentence for each difference, for the operator of a running agent.
pub fn notes(configured: &Currencies, ledger: &Currencies) -> Vec<String> {
    let note = |(brand, here, there): (&Brand, &Currency, &Currency)| {
        format!(
            "brand {brand} sells in {here} by this agent's configuration, and in {there} by the data centre's ledger, so each \
             of its orders is refused: put the right one into brands.{brand}.currency and restart, or have the ledger mended"
        )
    };
    differences(configured, ledger).map(note).collect()
}

/// Compares a configuration with the catalogue that was served last. Returns a mistake for each
/// setting that differs. A snapshot that is missing or unreadable has no information.
pub fn check(configured: &Currencies, snapshot: &Path) -> Vec<(String, String)> {
    let Ok(Some(image)) = snapshot::read_of_any_brands(snapshot) else { return Vec::new() };
    let ledger = replica_rows::currencies(image.rows.iter().map(|(key, row)| (key, row)));
    let mistake = |(brand, here, there): (&Brand, &Currency, &Currency)| {
        let mistake = format!(
            "must be {:?}, which the data centre's ledger has for this brand, is {:?}; if the ledger was changed since this agent \
             ended, remove {}",
            there.as_str(),
            here.as_str(),
            snapshot.display()
        );
        (format!("brands.{brand}.currency"), mistake)
    };
    differences(configured, &ledger).map(mistake).collect()
}

fn differences<'a>(
    configured: &'a Currencies,
    ledger: &'a Currencies,
) -> impl Iterator<Item = (&'a Brand, &'a Currency, &'a Currency)> {
    let both = configured.iter().filter_map(|(brand, here)| Some((brand, here, ledger.get(brand)?)));
    both.filter(|(_, here, there)| here != there)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bridge_protocol::domain::catalogue::{Code, EntityKey, EntityKind, Position};
    use bridge_protocol::wire::catalogue::BrandRow;
    use prost::Message as _;

    use super::*;
    use crate::replica::snapshot::Image;

    fn brand(name: &str) -> Brand {
        Brand::new(name).unwrap()
    }

    fn of(currencies: &[(&str, &str)]) -> Currencies {
        currencies.iter().map(|(name, code)| (brand(name), Currency::new(code).unwrap())).collect()
    }

    #[test]
    fn a_brand_whose_currency_differs_is_reported_and_an_unknown_one_not() {
        let configured = of(&[("hats", "KRW"), ("new", "USD"), ("shoes", "KRW"), ("tea", "KRW")]);
        let ledger = of(&[("hats", "JPY"), ("shoes", "KRW"), ("tea", "GBP")]);
        let notes = notes(&configured, &ledger);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("brands.hats.currency") && notes[1].contains("in GBP"), "{notes:?}");
    }

    #[test]
    fn check_compares_with_what_was_served_last_whatever_brands_are_configured_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.snapshot");
        let row = |name: &str, code: &str| {
            let key =
                EntityKey { kind: EntityKind::Brand, brand: brand(name), code: Code::new(name).unwrap() };
            (key, BrandRow { currency: code.to_owned() }.encode_to_vec().into())
        };
        let rows = vec![row("hats", "JPY"), row("shoes", "KRW"), row("tea", "GBP")];
        let brands = ["hats", "shoes", "tea"].map(brand).into_iter().collect::<BTreeSet<_>>();
        let image = Image { brands, position: Position { seq: 1, mark: 0 }, fresh_micros: 0, rows };
        let configured = of(&[("hats", "KRW"), ("new", "USD"), ("shoes", "KRW"), ("tea", "KRW")]);
        assert_eq!(check(&configured, &path), [], "a missing file is an error");
        snapshot::write(&path, &image).unwrap();
        let mistakes = check(&configured, &path);
        let [(setting, mistake), (other, _)] = &mistakes[..] else { panic!("{mistakes:?}") };
        assert!(setting == "brands.hats.currency" && other == "brands.tea.currency", "{mistakes:?}");
        assert!(
            mistake.starts_with("must be \"JPY\"") && mistake.contains("catalogue.snapshot"),
            "{mistake}"
        );
        assert_eq!(check(&of(&[("shoes", "KRW")]), &path), []);
    }
}
