//! Tests of what commands read, print and write: unusual files, text of others on a terminal, and
//! readers that close a pipe early.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use crate::common::{PATIENCE, Shared, Stage, order_at, site};
use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::process::Programs;
use serde_json::{Value, json};
use tokio::process::Command;

static BRIDGE: Shared = Shared::new(&["watched", "shown"], |_| Ok(()));

/// Runs commands of an IDC that has no running agent.
struct Idc {
    dir: tempfile::TempDir,
    program: std::path::PathBuf,
}

/// Exit code and output of a command.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    said: String,
}

impl Idc {
    async fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        site(dir.path(), &["tea"]).await?;
        Ok(Self { dir, program: Programs::build()?.idc })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--config").arg(self.dir.path().join("idc/bridge-idc.toml"));
        command.current_dir(self.dir.path());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        output_of(self.command(arguments)).await
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(fs::write(self.dir.path().join(name), bytes)?)
    }

    /// Imports a CSV file for brand `tea`.
    async fn import(&self, name: &str, bytes: impl AsRef<[u8]>, more: &[&str]) -> Result<Ended> {
        self.write(name, bytes)?;
        let map = "brand=@tea,currency=@KRW,product=product,sku=sku,price=price,quantity=units,name.ko=text";
        self.run(&[&["catalogue", "import", name, "--map", map], more].concat()).await
    }

    async fn exported(&self) -> Result<Vec<Value>> {
        let ended = self.run(&["catalogue", "export", "--brand", "tea"]).await?;
        ensure!(ended.code == 0, "{ended:?}");
        let lines = ended.out.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        Ok(lines.into_iter().filter(|line| line.get("product").is_some()).collect())
    }
}

async fn output_of(mut command: Command) -> Result<Ended> {
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let output = output.with_context(|| format!("{command:?} does not end"))??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ended {
        code: output.status.code().context("the command was ended by a signal")?,
        out: text(output.stdout),
        said: text(output.stderr),
    })
}

const HEADER: &str = "product,sku,price,units,text\n";

#[tokio::test]
async fn an_import_names_what_it_awaits_and_exits_with_1_in_vain() -> Result<()> {
    let idc = Idc::new().await?;
    let mut shell = Dba::connect(&Database::Sqlite(idc.dir.path().join("idc/ledger.db"))).await?;
    shell.execute("BEGIN IMMEDIATE").await?;
    idc.write("stock.csv", "brand,sku,unit_price,currency,quantity\ntea,P1-A,18000,KRW,4\n")?;
    idc.write("given.jsonl", "{\"brand\": \"tea\", \"product\": \"P1\"}\n")?;
    let held = "somebody else holds the ledger's SQLite file";
    let (stock, products) =
        (["stock", "import", "stock.csv", "--wait"], ["catalogue", "import", "given.jsonl", "--wait"]);
    let with = |command: [&'static str; 4], wait| [&command[..], &[wait]].concat();
    let (none, some) = ((with(stock, "0"), with(products, "0")), (with(stock, "3"), with(products, "3")));
    let (a, b, c, d) =
        tokio::try_join!(idc.run(&none.0), idc.run(&none.1), idc.run(&some.0), idc.run(&some.1))?;
    for (at_once, later, left) in [
        (a, c, "0 of 1 rows are in the database"),
        (b, d, "no product of the file is known to be in the database"),
    ] {
        ensure!(
            at_once.code == 1 && at_once.said.starts_with(held) && at_once.said.contains(left),
            "{at_once:?}"
        );
        ensure!(
            later.code == 1 && later.said.starts_with(&format!("waiting: {held}\n{held}, ")),
            "{later:?}"
        );
    }
    shell.execute("COMMIT").await?;
    let ended = idc.run(&["stock", "import", "stock.csv"]).await?;
    ensure!(ended.code == 0, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_disguised_catalogue_file_is_refused_whole_with_a_remedy() -> Result<()> {
    let idc = Idc::new().await?;
    let cp949 =
        [HEADER.as_bytes(), b"K1,K1-A,18000,10,\xbc\xbc\xc0\xdb\nK2,K2-A,9900,5,\xc4\xbf\xc6\xb0\n"].concat();
    let utf_16: Vec<u8> = HEADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cut = format!("{HEADER}P1,P1-A,18000,10,Tea\nP2,P2-A,9900,5,Plain");
    for (bytes, said) in [
        (&cp949[..], "line 2: is not UTF-8, and nothing of the file is imported"),
        (&cp949, "iconv -f CP949 -t UTF-8"),
        (&utf_16, "UTF-16"),
        (b"\x1f\x8b\x08\0", "gzip -d"),
        (cut.as_bytes(), "line 3: has no line's end"),
        (cut.as_bytes(), "--whole"),
        (b"product;sku;price;units;text\nA;A;1;1;a\n", "semicolons"),
        (b"", "the file is empty"),
    ] {
        let ended = idc.import("given.csv", bytes, &[]).await?;
        ensure!(ended.code == 1 && ended.said.contains(said), "{said}: {ended:?}");
        ensure!(ended.out.contains("imported nothing, since the file as a whole is refused"), "{ended:?}");
        ensure!(idc.exported().await?.is_empty(), "{said}: something was imported");
    }
    let ended = idc.import("given.csv", &cut, &["--whole"]).await?;
    ensure!(ended.code == 0 && idc.exported().await?.len() == 2, "{ended:?}");
    // The import of stock checks its file as the import of the catalogue does.
    let stock = "brand,sku,unit_price,currency,quantity\ntea,P1-A,18000,KRW,4";
    idc.write("stock.csv", stock)?;
    let ended = idc.run(&["stock", "import", "stock.csv"]).await?;
    ensure!(ended.code == 1 && ended.said.contains("line 2: has no line's end"), "{ended:?}");
    let ended = idc.run(&["stock", "import", "stock.csv", "--whole"]).await?;
    ensure!(ended.code == 0 && ended.out.contains("imported 1 rows"), "{ended:?}");
    // The import accepts a pipe, and writes no file beside it.
    let map = "brand=@tea,currency=@KRW,product=product,sku=sku,price=price,quantity=units,name.ko=text";
    let piped = format!("{HEADER}P3,P3-A,18000,10,Tea\nP4,P4-A,free,1,Tea\n");
    idc.write("piped", piped)?;
    for path in ["-", "/dev/stdin"] {
        let mut command = idc.command(&["catalogue", "import", path, "--map", map]);
        let (reader, writer) = io::pipe()?;
        std::thread::spawn({
            let bytes = fs::read(idc.dir.path().join("piped"))?;
            move || (&writer).write_all(&bytes)
        });
        command.stdin(reader);
        let ended = output_of(command).await?;
        ensure!(ended.code == 1 && ended.said.starts_with("1 refused:\n  line 3: price"), "{ended:?}");
    }
    ensure!(idc.exported().await?.len() == 3 && !Path::new("/dev/stdin.refused.csv").exists());
    // An unreadable path is a usage error.
    for path in [".", "nowhere.csv"] {
        for command in [["catalogue", "import", path], ["stock", "import", path]] {
            let ended = idc.run(&command).await?;
            ensure!(ended.code == 2 && ended.said.starts_with(path), "{ended:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_catalogue_s_lines_and_rows_are_counted_as_people_count_them() -> Result<()> {
    let idc = Idc::new().await?;
    let cr =
        format!("{HEADER}P1,P1-A,18000,10,Tea\nP2,P2-A,free,5,Cup\nP3,P3-A,9900,5,Cup\n").replace('\n', "\r");
    let ended = idc.import("cr.csv", &cr, &[]).await?;
    ensure!(ended.code == 1 && ended.said.contains("\n  line 3: price: "), "{ended:?}");
    let refused = idc.dir.path().join("cr.csv.refused.csv");
    ensure!(fs::read_to_string(&refused)?.contains("\n3,price,"), "the file of refusals has the same line");
    // A run without refusals deletes the file of an earlier run's refusals.
    let blank = format!("{HEADER}P2,P2-A,9900,5,Cup\n,,,,\n , ,,,\nP4,8.80123E+12,9900,5,Cup\n,,,,\n");
    let ended = idc.import("cr.csv", blank, &[]).await?;
    ensure!(ended.code == 0 && !refused.exists(), "{ended:?}");
    ensure!(ended.said.contains("line 5: sku: is what a spreadsheet makes"), "{ended:?}");
    ensure!(idc.exported().await?.len() == 4);
    // A file that is no list of refusals must not be deleted.
    idc.write("mine.csv", "mine\n")?;
    let good = format!("{HEADER}P5,P5-A,1,1,x\n");
    idc.import("cr.csv", good, &["--refused", "mine.csv"]).await?;
    ensure!(fs::read_to_string(idc.dir.path().join("mine.csv"))? == "mine\n");
    let ended = idc.import("cr.csv", format!("{HEADER}P5,P5-A,100,1,x\n"), &["--dry-run"]).await?;
    ensure!(ended.code == 0 && ended.said.contains("line 2: price: is 100 times what it was"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn an_export_goes_where_its_path_leads() -> Result<()> {
    let idc = Idc::new().await?;
    idc.import("one.csv", format!("{HEADER}P1,P1-A,18000,10,Tea\n"), &[]).await?;
    let at = |name: &str| idc.dir.path().join(name);
    fs::write(at("private"), "before")?;
    fs::set_permissions(at("private"), Permissions::from_mode(0o600))?;
    symlink("private", at("link"))?;
    let ended = idc.run(&["catalogue", "export", "--brand", "tea", "link"]).await?;
    ensure!(ended.code == 0, "{ended:?}");
    ensure!(at("link").symlink_metadata()?.is_symlink(), "the link was replaced");
    ensure!(fs::read_to_string(at("private"))?.contains("\"P1\""), "the link's target was not written");
    ensure!(fs::metadata(at("private"))?.permissions().mode() & 0o777 == 0o600);

    let ended = idc.run(&["catalogue", "export", "--brand", "tea", "/dev/stdout"]).await?;
    ensure!(ended.code == 0 && ended.out.contains("\"P1\""), "{ended:?}");
    let ended = idc.run(&["catalogue", "export", "--brand", "tea", "/dev/full"]).await?;
    ensure!(ended.code == 1 && ended.said.contains("No space left"), "{ended:?}");
    ensure!(fs::metadata("/dev/full")?.file_type().is_char_device());
    let ended = idc.run(&["catalogue", "export", "--brand", "tea", "."]).await?;
    ensure!(ended.code == 1 && ended.said.starts_with(".: is a directory"), "{ended:?}");
    let beside = fs::read_dir(idc.dir.path())?
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().contains(".new"));
    ensure!(beside.count() == 0, "a temporary file was left");
    Ok(())
}

/// Runs a command whose standard output has no reader.
async fn unread(mut command: Command) -> Result<(i32, String)> {
    let (reader, writer) = io::pipe()?;
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped()).stdin(Stdio::null());
    let child = command.kill_on_drop(true).spawn()?;
    // Closes this process's copy of the writing end.
    drop(command);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await??;
    Ok((
        output.status.code().context("the command was ended by a signal")?,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault_of_any_command() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let programs = Programs::build()?;
        let mut shop = crate::common::Shop::open(site, "watched");
        ensure!(shop.place_new(&[(0, 1)]).await?.status == 201);
        let cloud_config = site.cloud_dir().join("bridge-cloud.toml");
        let idc_config = site.idc_dir().join("bridge-idc.toml");
        let on = |program: &Path, config: &Path, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).arg("--config").arg(config);
            command
        };
        for arguments in [
            &["audit", "tail"][..],
            &["audit", "tail", "--json", "--follow"],
            &["audit", "show", "0"],
            &["audit", "verify"],
            &["audit", "key"],
            &["check"],
            &["check", "--print-config"],
            &["status"],
            &["status", "--json"],
        ] {
            for (program, config) in [(&programs.cloud, &cloud_config), (&programs.idc, &idc_config)] {
                let (code, said) = unread(on(program, config, arguments)).await?;
                ensure!((code, said.as_str()) == (0, ""), "{arguments:?}: {code} {said}");
            }
        }
        let (cloud, idc) = (site.cloud_dir().join("state/audit"), site.idc_dir().join("state/audit"));
        let (cloud, idc) = (cloud.display().to_string(), idc.display().to_string());
        for arguments in [
            &["catalogue", "export"][..],
            &["catalogue", "export", "/dev/stdout"],
            &["payments", "list"],
            &["payments", "list", "--json"],
            &["launch", "list"],
            &["launch", "list", "--json"],
            &["keys", "show"],
            &["migrate"],
            &["audit", "reconcile", &cloud, &idc],
        ] {
            let (code, said) = unread(on(&programs.idc, &idc_config, arguments)).await?;
            ensure!((code, said.as_str()) == (0, ""), "{arguments:?}: {code} {said}");
        }
        // The exit code still reports a finding, even without a reader.
        let empty = tempfile::tempdir()?;
        let dir = empty.path().display().to_string();
        let (code, _) =
            unread(on(&programs.idc, &idc_config, &["audit", "verify", "--json", "--dir", &dir])).await?;
        ensure!(code == 1, "{code}");
        Ok(())
    })
}

#[test]
fn a_shopper_s_text_is_shown_and_not_obeyed_by_the_terminal() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = crate::common::Shop::open(site, "shown");
        let order = shop.order(&[(0, 1)]);
        let mut body: Value = serde_json::from_slice(&order.body)?;
        let name = "Kim\u{1b}[2K\rdelivery_name: Lee\u{9b}1A\u{202e}";
        body["delivery"]["name"] = json!(name);
        let answer = shop.place(&order.key, body.to_string()).await?;
        ensure!(answer.status == 201, "{}", answer.status);
        let order = order_at(&answer)?;
        let show = ["personal", "show", &order, "--purpose", "ticket"];
        let shown = site.idc_command(&show).await?;
        let expected = "delivery_name: Kim\\u{1b}[2K\\u{d}delivery_name: Lee\\u{9b}1A\\u{202e}\n";
        ensure!(shown.contains(expected), "{shown:?}");
        ensure!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        let json: Value = serde_json::from_str(&site.idc_command(&[&show[..], &["--json"]].concat()).await?)?;
        ensure!(json["personal"]["delivery_name"] == name && json["order"] == order, "{json}");
        Ok(())
    })
}
