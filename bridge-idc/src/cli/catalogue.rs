//! `bridge-idc catalogue import|export`: imports a catalogue from a file, and exports it to a file.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bridge_protocol::domain::Brand;
use bridge_runtime::cli::{self, Access, Outcome, UserFile, out, shown};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::{files, load};
use crate::catalogue::Catalogue;
use crate::catalogue::import::mapping::Mapping;
use crate::catalogue::import::{CatalogueFile, Imported, Options, Tally};
use crate::import_file::parts::WAIT;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Import brands, categories, products, variants, prices and stock from CSV or JSON Lines.
    #[command(after_help = IMPORT_HELP)]
    Import(Import),
    /// Export the catalogue as JSON Lines, which import reads.
    #[command(
        after_help = "Examples:\n  bridge-idc catalogue export catalogue.jsonl\n  bridge-idc catalogue export --brand tea | gzip > tea.jsonl.gz"
    )]
    Export(Export),
}

/// Each paragraph is one line, so that clap wraps it at the width of the terminal.
const IMPORT_HELP: &str = "\
A file that ends in .csv is CSV with a header, one row a variant; every other file is JSON Lines, one object a line. Standard \
input (-) and a pipe are CSV where there is a mapping:
  {\"brand\": \"tea\", \"currency\": \"KRW\"}
  {\"brand\": \"tea\", \"category\": \"green\", \"parent\": \"all\", \"names\": {\"en\": \"Green\"}, \"position\": 1}
  {\"brand\": \"tea\", \"product\": \"SEJAK\", \"names\": {\"ko\": \"세작\"}, \"descriptions\": {},
   \"document\": {}, \"images\": [], \"categories\": [\"green\"],
   \"published_from\": \"2026-12-01T10:00:00+09:00\", \"published_until\": null,
   \"variants\": [{\"sku\": \"SEJAK-50\", \"options\": {\"weight\": \"50 g\"},
                 \"price\": {\"amount\": 18000, \"currency\": \"KRW\"}, \"quantity\": 40}]}
Each object is one line of the file. The last one is broken here to be easier to read.

Fields of a mapping: brand, currency, product, sku (else the product's code), price (in the currency's own unit: 3 and 3.00 of \
GBP are 300 pence; an amount of JSON is in minor units, as in the API), quantity, category and image (several between |), \
published_from, published_until, name.LANGUAGE, description.LANGUAGE, option.NAME, document.NAME. FIELD=@TEXT is the same text \
for every row.

Fields that a file does not have stay unchanged. Categories that are only mentioned are created. A quantity is the number of \
units for sale from now on; without one a SKU keeps its units, and a new SKU has none. An empty name is left out. A price of 0 \
is a valid price.

The whole file is checked first. It must be UTF-8, and its last row must end with a line end (LF, CRLF or CR): without it, a file \
that was cut within a number looks complete. A JSON object needs no line end. --whole says that the file is complete. Columns are \
separated by commas; spaces around a value and rows without a value are ignored.

Refused records are printed and written to FILE.refused.csv with line, field and reason. The rest is imported, and the exit code \
is 1. Doubtful records are imported with a warning: a SKU such as 8.80123E+12, a price 50 times the old one.

Products are written 1,000 at a time, and no order waits for more than that. Rows that another session holds, such as a DBA's \
open transaction, come last. The command names them, and their holder if the database can name it, and waits for them without \
holding anything else. --dry-run only reads the database, and writes the file of the refusals. --all-or-nothing checks the whole file, also against the database, before the first \
write. If the database fails after that, the command says how much is written, and the same command imports the rest.

Examples:
  bridge-idc catalogue import catalogue.jsonl
  bridge-idc catalogue import retail.csv --dry-run --map brand=@retail,currency=@GBP \\
    --map product=stock_code,name.en=description,price=unit_price_gbp,quantity=units_sold
  bridge-idc catalogue import shoes.csv --map-file shoes.toml --dry-run";

#[derive(Args)]
pub(super) struct Import {
    /// The file, or - for standard input.
    file: PathBuf,
    /// Source of a field, as FIELD=COLUMN or FIELD=@CONSTANT; separate several by commas, or repeat
    /// the option.
    #[arg(long, value_name = "FIELD=COLUMN", value_delimiter = ',', conflicts_with = "map_file")]
    map: Vec<String>,
    /// The same mapping from a TOML file: field = "column".
    #[arg(long, value_name = "FILE")]
    map_file: Option<PathBuf>,
    /// Report the result of an import, without writing to the database or locking anything in it.
    /// Refusals are written to their file all the same.
    #[arg(long)]
    dry_run: bool,
    /// Import nothing if anything is refused.
    #[arg(long)]
    all_or_nothing: bool,
    /// The file is complete, although its last line has no line end.
    #[arg(long)]
    whole: bool,
    /// Seconds to wait for rows that another session holds, once everything else is written.
    #[arg(long, value_name = "SECONDS", default_value_t = WAIT.as_secs(), value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
    /// File for the refusals [default: FILE.refused.csv]
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Export {
    /// The file [default: standard output, as with -]
    file: Option<PathBuf>,
    /// Only this brand; repeat the option for several.
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
    let bytes = files::read(&import.file)?;
    let refused = import.refused.or_else(|| files::beside(&import.file));
    if let Some(refused) = &refused {
        files::forget_refused(refused)?;
    }
    let path = shown(&import.file.display().to_string()).to_string();
    let is_mapped = !import.map.is_empty() || import.map_file.is_some();
    let is_csv = import.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
        || is_mapped && !files::is_plain(&import.file);
    let given = files::given(&bytes, import.whole);
    let file = if is_csv {
        let mapping = match &import.map_file {
            Some(file) => {
                let text = fs::read_to_string(file);
                Mapping::from_toml(&text.map_err(|error| cli::usage(format!("{}: {error}", file.display())))?)
            }
            None => Mapping::parse(import.map.iter().map(String::as_str)),
        };
        let mapping = mapping.map_err(|mistakes| {
            cli::usage(format!("the mapping cannot be used:\n  {}", mistakes.join("\n  ")))
        })?;
        CatalogueFile::csv(given, &mapping)
    } else if is_mapped {
        return Err(cli::usage(format!("{path}: a mapping is for a file that ends in .csv")));
    } else {
        CatalogueFile::json_lines(given)
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} products, {eta} left")?;
    let progress = ProgressBar::new(file.len() as u64).with_style(style);
    let wait = Duration::from_secs(import.wait);
    let options = Options { dry_run: import.dry_run, all_or_nothing: import.all_or_nothing, wait };
    // Boxed, because its future is large.
    let imported = Box::pin(catalogue.import(file, options, |told| files::show(&progress, told))).await?;
    progress.finish_and_clear();
    files::warn(&imported.warned);
    let told = report(&imported, options);
    if imported.refused.is_empty() {
        return Ok(told?);
    }
    // Write the file even if standard output is closed.
    let count = imported.refused.len();
    let place = refused.map_or(String::new(), |path| match files::write_refused(&path, &imported.refused) {
        Ok(()) => format!(", see {}", path.display()),
        Err(error) => format!(", which cannot be written to {} ({error})", path.display()),
    });
    Err(cli::failed(format!("{count} refused{place}:{}", files::first(&imported.refused))))
}

fn report(imported: &Imported, options: Options) -> io::Result<()> {
    let mut out = out();
    let tally = |Tally { new, changed, unchanged }: Tally| {
        format!("{new} new, {changed} changed, {unchanged} unchanged")
    };
    let heading = match (options.dry_run, imported.kept) {
        (true, _) => "would import (nothing is written: --dry-run)",
        (false, true) => "imported",
        (false, false) if options.all_or_nothing => {
            "imported nothing, since something was refused (--all-or-nothing); it would have been"
        }
        (false, false) => "imported nothing, since the file as a whole is refused",
    };
    writeln!(out, "{heading}:")?;
    writeln!(out, "  brands      {} new", imported.brands)?;
    writeln!(out, "  categories  {}", tally(imported.categories))?;
    writeln!(out, "  products    {}", tally(imported.products))?;
    writeln!(out, "  variants    {}", tally(imported.variants))?;
    writeln!(out, "  stock       {} SKUs have a new number of units", imported.stock)?;
    writeln!(out, "  refused     {}", imported.refused.len())
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
    let Some(path) = export.file.filter(|path| !files::is_standard(path)) else {
        catalogue.export(&brands, &mut BufWriter::new(out()), |done| progress.set_position(done)).await?;
        progress.finish_and_clear();
        return Ok(());
    };
    let named = shown(&path.display().to_string()).to_string();
    // If the export ends early, the file of an earlier export stays unchanged.
    let mut file =
        UserFile::create(&path, Access::AsItIs).map_err(|error| cli::failed(format!("{named}: {error}")))?;
    let products = catalogue.export(&brands, &mut file, |done| progress.set_position(done)).await?;
    file.finish()?;
    progress.finish_and_clear();
    writeln!(out(), "exported {products} products of {} brands to {named}", brands.len())?;
    Ok(())
}
