//! Tests of the settings of each PostgreSQL session, and of a pooler that does not keep them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bridge_idc::config::LedgerUrl;
use bridge_idc::orders::store::NotReady;
use bridge_tests::testkit::postgres::{More, Postgres};
use bridge_tests::testkit::process::Programs;
use bridge_tests::testkit::site::{Site, configure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::database::{connect, create, postgres};
use crate::shop::{Shop, commit_one, is_placed};

#[tokio::test]
async fn commits_are_durable_whatever_the_role_or_database_sets() {
    let database = postgres("durable").await;
    // A trigger on a written table records how durable its transaction will be.
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
async fn a_pooler_that_loses_session_settings_is_refused_with_the_reason() {
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
    let sqlite = bridge_tests::testkit::database::Database::Sqlite(dir.path().join("idc/ledger.db"));
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

#[tokio::test]
async fn a_server_that_does_not_wait_for_its_disk_is_refused() {
    let more = More { settings: vec!["fsync=off".to_owned()], ..More::default() };
    let cluster = Postgres::start_with(more).await.unwrap();
    let ledger = connect(&LedgerUrl::Postgres(create(&cluster, "careless").await)).await;
    ledger.migrate().await.unwrap();
    let error = ledger.ready().await.unwrap_err();
    assert!(matches!(error, NotReady::NotDurable("fsync")), "{error}");
}

#[tokio::test]
async fn a_session_whose_commits_do_not_wait_is_refused() {
    let database = postgres("waits").await;
    let LedgerUrl::Postgres(url) = database.url() else { unreachable!() };
    let shared = shared_session(url).await;
    let error = connect(&shared).await.ready().await.unwrap_err();
    assert!(matches!(error, NotReady::NotDurable("synchronous_commit")), "{error}");
    database.ledger.ready().await.unwrap();
}

/// A relay that acts like a pooler whose sessions other clients also use. Before each query for the
/// session's settings it sets `synchronous_commit` to off, as another client may have done.
async fn shared_session(url: &str) -> LedgerUrl {
    between(url, take_turns).await
}

/// Returns the URL of a relay in front of PostgreSQL. `handle` gets the client's connection and one
/// to the server.
async fn between<F>(url: &str, handle: fn(TcpStream, TcpStream) -> F) -> LedgerUrl
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let (user, rest) = url.split_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{user}@{}/{database}?sslmode=disable", listener.local_addr().unwrap());
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            let handled = handle(client, server);
            tokio::spawn(async move { handled.await.unwrap_or_default() });
        }
    });
    LedgerUrl::Postgres(url)
}

/// Reads a message of PostgreSQL's protocol, but not the startup message. Returns its type and all
/// its bytes.
async fn message(from: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let (kind, size) = (from.read_u8().await?, from.read_u32().await?);
    let mut whole = [&[kind][..], &size.to_be_bytes()].concat();
    whole.resize(1 + size as usize, 0);
    from.read_exact(&mut whole[5..]).await?;
    Ok((kind, whole))
}

/// Relays one message after the other between client and server.
async fn take_turns(mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
    let size = client.read_u32().await?;
    let mut startup = size.to_be_bytes().to_vec();
    startup.resize(size as usize, 0);
    client.read_exact(&mut startup[4..]).await?;
    server.write_all(&startup).await?;
    let mut authenticated = false;
    loop {
        if authenticated {
            let (kind, said) = message(&mut client).await?;
            if kind == b'Q' && said.windows(5).any(|word| word == b"fsync") {
                let sql = b"SET synchronous_commit = off\0";
                let size = u32::try_from(sql.len() + 4).unwrap();
                server.write_all(&[b"Q", &size.to_be_bytes()[..], sql].concat()).await?;
                while message(&mut server).await?.0 != b'Z' {}
            }
            server.write_all(&said).await?;
            if kind != b'Q' && kind != b'S' {
                continue;
            }
        }
        loop {
            let (kind, said) = message(&mut server).await?;
            client.write_all(&said).await?;
            // The server asks for the password, or for the next part of the proof.
            if kind == b'R' && [3, 5, 10, 11].contains(&said[8]) {
                let (_, proof) = message(&mut client).await?;
                server.write_all(&proof).await?;
            }
            if kind == b'Z' {
                authenticated = true;
                break;
            }
        }
    }
}

/// A pooler that drops the settings a client sends when it connects, as PgBouncer does with
/// `ignore_startup_parameters = options`.
async fn pooler(url: &str) -> LedgerUrl {
    between(url, pass).await
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
