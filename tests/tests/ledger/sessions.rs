//! What each session at PostgreSQL is asked for, and a pooler that does not keep it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bridge_idc::config::LedgerUrl;
use bridge_idc::ledger::NotReady;
use bridge_tests::process::Programs;
use bridge_tests::site::{Site, configure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::database::{connect, postgres};
use crate::shop::{Shop, commit_one, is_placed};

#[tokio::test]
async fn commits_are_durable_whatever_a_role_or_a_database_is_set_to_and_never_less_than_the_server() {
    let database = postgres("durable").await;
    // A statement that writes says how durable its transaction is going to be.
    let record = "CREATE TABLE seen (setting text); \
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        INSERT INTO seen SELECT current_setting('synchronous_commit'); RETURN NEW; END $$; \
        CREATE TRIGGER note BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION note()";
    database.run(record, "").await;
    let shop = Shop::open(&database.ledger, "acme", &[("A", 10)]).await;
    for (number, (set, seen)) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ]
    .into_iter()
    .enumerate()
    {
        let LedgerUrl::Postgres(url) = database.url() else { unreachable!() };
        let name = url.rsplit('/').next().unwrap();
        database
            .run(&format!("ALTER DATABASE {name} SET synchronous_commit = {set}; DELETE FROM seen"), "")
            .await;
        let agent = connect(database.url()).await;
        agent.ready().await.unwrap();
        assert!(is_placed(&commit_one(&agent, shop.place(&number.to_string(), &[("A", 1)])).await));
        let is_as_wanted = match seen {
            "on" => "SELECT count(*) FROM seen WHERE setting = 'on'",
            _ => "SELECT count(*) FROM seen WHERE setting = 'remote_apply'",
        };
        assert_eq!(database.count(is_as_wanted).await, 1, "set to {set}");
    }
}

#[tokio::test]
async fn a_pooler_that_loses_what_is_set_for_a_session_is_refused_with_the_reason() {
    let database = postgres("pooled").await;
    let LedgerUrl::Postgres(url) = database.url() else { unreachable!() };
    let pooler = pooler(url).await;
    let error = connect(&pooler).await.ready().await.unwrap_err();
    assert!(matches!(error, NotReady::Pooled(_)), "{error}");
    assert!(error.to_string().contains("let ledger.url name PostgreSQL itself"), "{error}");
    database.ledger.ready().await.unwrap();
}

#[tokio::test]
async fn a_command_refuses_such_a_pooler_as_the_agent_does() {
    let database = postgres("pooled_command").await;
    let LedgerUrl::Postgres(url) = database.url() else { unreachable!() };
    let LedgerUrl::Postgres(pooler) = pooler(url).await else { unreachable!() };
    let (dir, programs) = (tempfile::tempdir().unwrap(), Programs::build().unwrap());
    let sqlite = bridge_tests::database::Database::Sqlite(dir.path().join("idc/ledger.db"));
    let site = Site::prepare(dir.path(), programs, sqlite, &[("acme", "KRW")], 1).await.unwrap();
    let config = site.idc_dir().join("bridge-idc.toml");
    let (credentials, server) = pooler.split_once('@').unwrap();
    let (user, password) = credentials.rsplit_once(':').unwrap();
    let file = dir.path().join("password");
    fs::write(&file, password).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    configure(&config, "ledger.url", format!("{user}@{server}")).unwrap();
    configure(&config, "ledger.password_file", file.display().to_string()).unwrap();
    for command in [&["migrate"][..], &["payments", "list"], &["catalogue", "export", "-"]] {
        let mut called = tokio::process::Command::new(&site.idc.program);
        let ended = called.args(command).arg("--config").arg(&config).output().await.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("let ledger.url name PostgreSQL itself"), "{command:?}: {said}");
    }
}

/// Passes everything on but what a client sets for its session when it connects, as PgBouncer with
/// `ignore_startup_parameters = options` does.
async fn pooler(url: &str) -> LedgerUrl {
    let (user, rest) = url.split_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{user}@{}/{database}?sslmode=disable", listener.local_addr().unwrap());
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move { pass(client, server).await.unwrap_or_default() });
        }
    });
    LedgerUrl::Postgres(url)
}

async fn pass(mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
    let size = client.read_u32().await?;
    let mut startup = vec![0; size as usize - 4];
    client.read_exact(&mut startup).await?;
    let mut kept = startup[..4].to_vec();
    let fields: Vec<&[u8]> = startup[4..].split(|byte| *byte == 0).collect();
    for pair in fields.chunks_exact(2).filter(|pair| !pair[0].is_empty() && pair[0] != b"options") {
        kept.extend([pair[0], &[0], pair[1], &[0]].concat());
    }
    kept.push(0);
    server.write_u32(u32::try_from(kept.len() + 4).unwrap()).await?;
    server.write_all(&kept).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}
