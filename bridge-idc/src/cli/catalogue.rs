//! `bridge-idc catalogue import|export`: what is on sale, from a file and into one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use bridge_protocol::domain::Brand;
use bridge_runtime::cli::{self, Outcome};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::load;
use crate::catalogue::Catalogue;
use crate::catalogue::import::mapping::Mapping;
use crate::catalogue::import::record::Refusal;
use crate::catalogue::import::{CatalogueFile, Imported, Options, Tally};

/// Refusals printed; all of them are in the file.
const SHOWN: usize = 10;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Import brands, categories, products, variants, prices and stock from CSV or JSON Lines.
    #[command(after_help = IMPORT_HELP)]
    Import(Import),
    /// Write the catalogue as JSON Lines, which import reads.
    #[command(
        after_help = "Examples:\n  bridge-idc catalogue export catalogue.jsonl\n  bridge-idc catalogue export --brand tea | gzip > tea.jsonl.gz"
    )]
    Export(Export),
}

const IMPORT_HELP: &str = "\
A file that ends in .csv is CSV with a header, one row a variant; every other file is JSON Lines, one object a line:
  {\"brand\": \"tea\", \"currency\": \"KRW\"}
  {\"brand\": \"tea\", \"category\": \"green\", \"parent\": \"all\", \"names\": {\"en\": \"Green\", \"ko\": \"녹차\"}, \"position\": 1}
  {\"brand\": \"tea\", \"product\": \"SEJAK\", \"names\": {\"ko\": \"세작\"}, \"descriptions\": {}, \"document\": {}, \"images\": [],
   \"categories\": [\"green\"], \"published_from\": \"2026-12-01T10:00:00+09:00\", \"published_until\": null,
   \"variants\": [{\"sku\": \"SEJAK-50\", \"options\": {\"weight\": \"50 g\"}, \"price\": {\"amount\": 18000, \"currency\": \"KRW\"}, \"quantity\": 40}]}

Fields of a mapping: brand, currency, product, sku (else the product's code), price (with the currency's decimals), quantity,
category and image (several between |), published_from, published_until, name.LANGUAGE, description.LANGUAGE, option.NAME,
document.NAME. FIELD=@TEXT is the same text for every row.

What a file does not speak of stays as it is. Categories that are only mentioned are made. A quantity is what is for sale from now
on; without one a SKU keeps its units, and a new one has none. An empty name is left out, a price of 0 is a price.

What is refused is printed and written to FILE.refused.csv with line, field and reason; the rest is imported, and the exit code is 1.

Examples:
  bridge-idc catalogue import catalogue.jsonl
  bridge-idc catalogue import ../shared/data/online-retail/catalogue.csv \\
    --map brand=@retail,currency=@GBP,product=stock_code,name.en=description,price=unit_price_gbp,quantity=units_sold
  bridge-idc catalogue import shoes.csv --map-file shoes.toml --dry-run";

#[derive(Args)]
pub(super) struct Import {
    /// The file.
    file: PathBuf,
    /// Which column of a CSV file is which field, as FIELD=COLUMN or FIELD=@CONSTANT; between commas or several times.
    #[arg(long, value_name = "FIELD=COLUMN", value_delimiter = ',', conflicts_with = "map_file")]
    map: Vec<String>,
    /// The same from a TOML file: field = "column".
    #[arg(long, value_name = "FILE")]
    map_file: Option<PathBuf>,
    /// Do everything, say what it would do, and take it back.
    #[arg(long)]
    dry_run: bool,
    /// Import nothing if anything is refused.
    #[arg(long)]
    all_or_nothing: bool,
    /// Where what is refused is written [default: FILE.refused.csv]
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Export {
    /// The file; without it, or with -, standard output.
    file: Option<PathBuf>,
    /// Only this brand; may be given several times.
    #[arg(long)]
    brand: Vec<String>,
}

pub(super) async fn run(config: &Path, command: Command) -> Outcome {
    let config = load(config)?;
    let ledger = super::open_ledger(&config.ledger).await?;
    ledger.ready().await?;
    let catalogue = Catalogue::of(&ledger);
    match command {
        Command::Import(import) => run_import(&catalogue, import).await,
        Command::Export(export) => run_export(&catalogue, export).await,
    }
}

async fn run_import(catalogue: &Catalogue, import: Import) -> Outcome {
    let path = import.file.display();
    let unreadable = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| cli::usage(format!("{path}: {error}"))
    };
    let bytes = fs::read(&import.file).map_err(unreadable(&import.file))?;
    let is_csv = import.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let file = if is_csv {
        let mapping = match &import.map_file {
            Some(file) => Mapping::from_toml(&fs::read_to_string(file).map_err(unreadable(file))?),
            None => Mapping::parse(import.map.iter().map(String::as_str)),
        };
        let mapping = mapping.map_err(|mistakes| {
            cli::usage(format!("the mapping cannot be used:\n  {}", mistakes.join("\n  ")))
        })?;
        CatalogueFile::csv(&bytes, &mapping)
    } else if import.map.is_empty() && import.map_file.is_none() {
        CatalogueFile::json_lines(&bytes)
    } else {
        return Err(cli::usage(format!("{path}: a mapping is for a file that ends in .csv")));
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} products, {eta} left")?;
    let progress = ProgressBar::new(file.len() as u64).with_style(style);
    let options = Options { dry_run: import.dry_run, all_or_nothing: import.all_or_nothing };
    let imported = catalogue.import(file, options, |done| progress.set_position(done as u64)).await?;
    progress.finish_and_clear();
    let refused = import.refused.unwrap_or_else(|| {
        let mut path = import.file.clone().into_os_string();
        path.push(".refused.csv");
        path.into()
    });
    report(&imported, options, &refused)
}

fn report(imported: &Imported, options: Options, refused_path: &Path) -> Outcome {
    let mut out = io::stdout();
    let tally = |Tally { new, changed, unchanged }: Tally| {
        format!("{new} new, {changed} changed, {unchanged} unchanged")
    };
    let heading = match (options.dry_run, imported.kept) {
        (true, _) => "would import (nothing was kept: --dry-run)",
        (false, true) => "imported",
        (false, false) => {
            "imported nothing, since something was refused (--all-or-nothing); it would have been"
        }
    };
    writeln!(out, "{heading}:")?;
    writeln!(out, "  brands      {} new", imported.brands)?;
    writeln!(out, "  categories  {}", tally(imported.categories))?;
    writeln!(out, "  products    {}", tally(imported.products))?;
    writeln!(out, "  variants    {}", tally(imported.variants))?;
    writeln!(out, "  stock       {} SKUs have other units now", imported.stock)?;
    writeln!(out, "  refused     {}", imported.refused.len())?;
    if imported.refused.is_empty() {
        return Ok(());
    }
    let written = write_refused(refused_path, &imported.refused);
    let shown: String = imported.refused.iter().take(SHOWN).map(|refusal| format!("\n  {refusal}")).collect();
    let more = imported.refused.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    let path = refused_path.display();
    let place = match written {
        Ok(()) => format!("see {path}"),
        Err(error) => format!("which cannot be written to {path} ({error:#})"),
    };
    Err(cli::failed(format!("{} refused, {place}:{shown}{more}", imported.refused.len())))
}

fn write_refused(path: &Path, refused: &[Refusal]) -> anyhow::Result<()> {
    let mut file = csv::Writer::from_path(path)?;
    file.write_record(["line", "field", "reason"])?;
    for Refusal { line, field, reason } in refused {
        file.write_record([&line.to_string(), field, reason])?;
    }
    file.flush()?;
    Ok(())
}

async fn run_export(catalogue: &Catalogue, export: Export) -> Outcome {
    let known = catalogue.brands().await?;
    let named: Vec<Brand> =
        export.brand.iter().map(|name| Brand::new(name)).collect::<Result<_, _>>().map_err(cli::usage)?;
    if let Some(unknown) = named.iter().find(|brand| !known.contains(brand)) {
        return Err(cli::usage(format!("there is no brand {unknown} in this database")));
    }
    let brands = if named.is_empty() { known } else { named };
    let style = ProgressStyle::with_template("{spinner} {pos} products")?;
    let progress = ProgressBar::no_length().with_style(style);
    let Some(path) = export.file.filter(|path| path.as_os_str() != "-") else {
        catalogue
            .export(&brands, &mut BufWriter::new(io::stdout()), |done| progress.set_position(done))
            .await?;
        progress.finish_and_clear();
        return Ok(());
    };
    // Beside it first: an export that ends early leaves the one before as it was.
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = BufWriter::new(File::create(&beside)?);
    let products = catalogue.export(&brands, &mut file, |done| progress.set_position(done)).await?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&beside, &path)?;
    progress.finish_and_clear();
    writeln!(io::stdout(), "exported {products} products of {} brands to {}", brands.len(), path.display())?;
    Ok(())
}
