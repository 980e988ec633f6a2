//! Tests of the reader from outside. A file and an environment go in. Values or all mistakes come
//! out.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use bridge_protocol::domain::identity::Role;
use tempfile::TempDir;

use super::*;

/// A folder with an `agent.toml` and the files that it names.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new(toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("agent.toml"), toml).unwrap();
        Self { folder }
    }

    fn file(self, name: &str, content: &str, mode: u32) -> Self {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, environment: &[(&str, &str)]) -> Result<Reader, Mistakes> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Reader::open(&self.path("agent.toml"), "AGENT", environment)
    }

    /// Returns the mistakes after `read`, without the folder's name.
    fn mistakes(&self, environment: &[(&str, &str)], read: impl FnOnce(&mut Reader)) -> Vec<String> {
        let result = self.open(environment).and_then(|mut reader| {
            read(&mut reader);
            reader.finish()
        });
        let folder = format!("{}/", self.folder.path().display());
        let text = result.err().map(|mistakes| mistakes.to_string()).unwrap_or_default();
        text.lines().map(|line| line.replace(&folder, "")).collect()
    }
}

#[test]
fn five_mistakes_are_told_together_each_with_its_line() {
    let fixture = Fixture::new(
        "[tunnel]\n\
         listen = [\"0.0.0.0:7443\", \"seven\"]\n\
         order_lanes = 40\n\
         heartbeat = \"1 minute\"\n\
         post_quantum = \"maybe\"\n\
         links_per_pear = 2\n",
    );
    let mistakes = fixture.mistakes(&[], |reader| {
        let mut tunnel = reader.section("tunnel");
        let _: Vec<SocketAddr> = tunnel.list("listen");
        let _: u8 = tunnel.number("order_lanes", 1..=16, 4);
        let _: Duration = tunnel.or("heartbeat", "1s");
        let _: bool = tunnel.choice("post_quantum", "require", &[("require", true), ("off", false)]);
        let _: u8 = tunnel.number("links_per_peer", 1..=8, 1);
    });
    assert_eq!(
        mistakes,
        [
            "agent.toml:2: tunnel.listen: must be an IP address with a port, such as \"127.0.0.1:8080\", is \"seven\"",
            "agent.toml:3: tunnel.order_lanes: must be 1 to 16, is 40",
            "agent.toml:4: tunnel.heartbeat: must be a duration from \"1ms\" to \"24h\", in ms, s, m or h, such as \"10s\", is \"1 minute\"",
            "agent.toml:5: tunnel.post_quantum: must be \"require\" or \"off\", is \"maybe\"",
            "agent.toml:6: tunnel.links_per_pear: is not a known setting: did you mean tunnel.links_per_peer?",
        ]
    );
}

#[test]
fn a_missing_key_is_told_where_its_section_begins() {
    let fixture = Fixture::new("\n\n[agent]\n");
    let mistakes = fixture.mistakes(&[], |reader| {
        let _: String = reader.section("agent").required("name");
        let _: String = reader.section("other").required("name");
    });
    assert_eq!(
        mistakes,
        [
            "agent.toml: other.name: is missing: give a text",
            "agent.toml:3: agent.name: is missing: give a text"
        ]
    );
}

#[test]
fn the_environment_overlays_the_file() {
    let fixture =
        Fixture::new("[a]\nnumber = 1\nlist = [\"x\"]\nyes = true\n[b.one-two]\ncurrency = \"KRW\"\n");
    let environment = [
        ("AGENT__A__NUMBER", "7"),
        ("AGENT__A__LIST", "y, z"),
        ("AGENT__A__YES", "false"),
        ("AGENT__B__ONE_TWO__CURRENCY", "JPY"),
        ("AGENT__B__THREE__CURRENCY", "EUR"),
        ("AGENTS__A__NUMBER", "not ours"),
        ("PATH", "/bin"),
    ];
    let mut reader = fixture.open(&environment).unwrap();
    let mut section = reader.section("a");
    assert_eq!(section.number::<u8>("number", 0..=9, 5), 7);
    assert_eq!(section.list::<String>("list"), ["y", "z"]);
    assert!(!section.or::<bool>("yes", "true"));
    let named = reader.named("b", |section| section.required::<String>("currency"));
    assert_eq!(
        named.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>(),
        ["one-two JPY", "three EUR"]
    );
    let effective = "[a]\nnumber = 7\nlist = [\"y\", \"z\"]\nyes = false\n\n\
                     [b.one-two]\ncurrency = \"JPY\"\n\n[b.three]\ncurrency = \"EUR\"\n";
    assert_eq!(reader.finish().unwrap(), effective);
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    let fixture = Fixture::new("[a]\nnumber = 1\n");
    let environment = [("AGENT__A__NUMBER", "many"), ("AGENT__A__NUMBRE", "2"), ("AGENT__TOKEN", "hunter2")];
    let mistakes = fixture.mistakes(&environment, |reader| {
        let _: u8 = reader.section("a").number("number", 0..=9, 5);
    });
    assert_eq!(
        mistakes,
        [
            "environment variable AGENT__A__NUMBER: a.number: must be 0 to 9, is many",
            "environment variable AGENT__A__NUMBRE: a.numbre: is not a known setting: did you mean AGENT__A__NUMBER?",
            "environment variable AGENT__TOKEN: token: is not a known setting: remove it, the sample file has all there are",
        ]
    );
}

#[test]
fn a_wrong_type_is_told_by_name() {
    let fixture = Fixture::new(
        "a.text = 5\na.number = \"5\"\na.yes = \"true\"\na.list = \"x\"\na.float = 1.5\na.deep.er = 1\n",
    );
    let mistakes = fixture.mistakes(&[], |reader| {
        let mut section = reader.section("a");
        let _: String = section.required("text");
        let _: u8 = section.number("number", 0..=9, 5);
        let _: bool = section.or("yes", "true");
        let _: Vec<String> = section.list("list");
        let _: String = section.required("float");
    });
    assert_eq!(
        mistakes,
        [
            "agent.toml:1: a.text: must be a text, is a number",
            "agent.toml:2: a.number: must be a whole number, is a text",
            "agent.toml:3: a.yes: must be true or false, is a text",
            "agent.toml:4: a.list: must be a list in brackets, each a text",
            "agent.toml:5: a.float: must be a text, is a float",
            "agent.toml:6: a.deep: is not a known setting: remove it, the sample file has all there are",
        ]
    );
}

#[test]
fn a_section_given_as_a_value_and_an_unknown_section_are_mistakes() {
    let fixture = Fixture::new("tunnel = 5\n[tunel]\nlisten = 1\nelse = 2\n[empty]\n");
    let mistakes = fixture.mistakes(&[], |reader| {
        let _: Vec<String> = reader.section("tunnel").list("listen");
    });
    assert_eq!(
        mistakes,
        [
            "agent.toml:1: tunnel: is a section: write [tunnel]",
            "agent.toml:2: tunel: is not a known setting: did you mean tunnel?",
            "agent.toml:5: empty: is not a known setting: remove it, the sample file has all there are",
        ]
    );
}

#[test]
fn a_table_of_names_is_guessed_without_any_section_of_it() {
    let fixture = Fixture::new("[brand.shoes]\ncurrency = \"KRW\"\n");
    let mistakes = fixture.mistakes(&[], |reader| {
        reader.named("brands", |section| section.required::<String>("currency"));
    });
    assert!(mistakes.len() == 1 && mistakes[0].contains("did you mean brands"), "{mistakes:?}");
}

#[test]
fn a_text_without_quotes_is_told_to_be_quoted() {
    for value in ["front-1", "false-friend", "/var/lib/bridge", "no.such.word"] {
        let mistakes = Fixture::new(&format!("[agent]\nname = {value}\n")).mistakes(&[], |_| ());
        assert_eq!(mistakes, ["agent.toml:2: is not valid TOML: write a text in double quotes"], "{value}");
    }
}

#[test]
fn what_is_not_toml_is_told_without_the_line_itself() {
    let fixture = Fixture::new("[a]\nok = 1\npassword = hunter2 hunter2\n[b\n");
    let mistakes = fixture.mistakes(&[], |_| ());
    assert!(
        mistakes.iter().any(|mistake| mistake.starts_with("agent.toml:3: is not valid TOML: ")),
        "{mistakes:?}"
    );
    assert!(
        mistakes.iter().any(|mistake| mistake.starts_with("agent.toml:4: is not valid TOML: ")),
        "{mistakes:?}"
    );
    assert!(!mistakes.concat().contains("hunter2"), "{mistakes:?}");
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let missing = PathBuf::from("/nowhere/agent.toml");
    let mistakes = Reader::open(&missing, "AGENT", std::iter::empty()).err().unwrap().to_string();
    assert!(mistakes.starts_with("/nowhere/agent.toml: cannot be read: "), "{mistakes}");
}

#[test]
fn a_secret_is_read_without_its_line_end_and_never_shown() {
    let fixture = Fixture::new("[a]\nsecret = \"secret\"\n").file("secret", "hunter2\n", 0o600);
    let mut reader = fixture.open(&[]).unwrap();
    assert_eq!(reader.section("a").required::<Secret>("secret").expose(), b"hunter2");
    assert_eq!(reader.finish().unwrap(), "[a]\nsecret = \"secret\"\n");
}

#[test]
fn a_secret_comes_from_a_systemd_credential() {
    let fixture = Fixture::new("[a]\nsecret = \"credential:token\"\n").file("token", "hunter2", 0o440);
    let folder = fixture.folder.path().display().to_string();
    let mut reader = fixture.open(&[("CREDENTIALS_DIRECTORY", &folder)]).unwrap();
    assert_eq!(reader.section("a").required::<Secret>("secret").expose(), b"hunter2");
    assert!(reader.finish().is_ok());
}

#[test]
fn a_bad_secret_is_refused_without_repeating_what_was_given() {
    let toml = "a.pasted = \"hunter2\"\na.open = \"open\"\na.empty = \"empty\"\na.outside = \"credential:../x\"\n\
                a.unset = \"credential:x\"\na.folder = \".\"\n";
    let fixture = Fixture::new(toml).file("open", "hunter2", 0o644).file("empty", "\n", 0o600);
    fs::set_permissions(fixture.folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mistakes = fixture.mistakes(&[], |reader| {
        for key in ["pasted", "open", "empty", "outside", "unset", "folder"] {
            let _: Secret = reader.section("a").required(key);
        }
    });
    let expected = [
        "agent.toml:1: a.pasted: names a file that cannot be read: ",
        "agent.toml:2: a.open: names a file that is open to others (mode 0644, ",
        "agent.toml:3: a.empty: names an empty file",
        "agent.toml:4: a.outside: must name a credential",
        "agent.toml:5: a.unset: names a systemd credential, but CREDENTIALS_DIRECTORY is not set",
        "agent.toml:6: a.folder: must name a regular file",
    ];
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(expected), "{mistake}");
    }
    assert!(!mistakes.concat().contains("hunter2"), "{mistakes:?}");
}

#[test]
fn amounts_are_read_with_their_units() {
    let fixture =
        Fixture::new("a.rate = \"1 Gbit/s\"\na.size = \"3KiB\"\na.time = \"90m\"\na.off = \"off\"\n");
    let mut reader = fixture.open(&[]).unwrap();
    let mut section = reader.section("a");
    assert_eq!(section.or::<BitRate>("rate", "1 kbit/s").bytes_per_second(), 125_000_000);
    assert_eq!(section.or::<ByteSize>("size", "1 KiB").bytes(), 3_072);
    assert_eq!(section.or::<Duration>("time", "1s"), Duration::from_secs(5_400));
    assert_eq!(section.within_or_off::<BitRate>("off", "1 kbit/s"..="1 Gbit/s", "1 kbit/s"), None);
    assert!(reader.finish().is_ok());
}

#[test]
fn amounts_that_are_none_are_refused() {
    for text in ["0s", "-1s", "1", "s", "1.5s", "25h", "18446744073709551615h", "1 s s", ""] {
        let fixture = Fixture::new(&format!("a.time = {text:?}\n"));
        let mistakes = fixture.mistakes(&[], |reader| {
            let _: Duration = reader.section("a").or("time", "1s");
        });
        assert_eq!(mistakes.len(), 1, "{text:?} was taken as a duration");
    }
}

#[test]
fn a_collector_of_traces_is_an_address_without_tls() {
    let place = BasePaths::default();
    for text in
        ["http://127.0.0.1:4318", "http://127.0.0.1:4318/", "http://[::1]:4318", "http://collector/otlp"]
    {
        let url = CollectorUrl::parse(text, &place).unwrap();
        assert_eq!(url.traces(), format!("{}/v1/traces", text.trim_end_matches('/')));
    }
    for text in [
        "",
        "127.0.0.1:4318",
        "/v1/traces",
        "http://",
        "http://:4318",
        "https://collector:4318",
        "grpc://collector:4317",
        "http://me:hunter2@collector:4318",
        "http://collector:4318?token=hunter2",
        "http://a b:4318",
    ] {
        assert!(CollectorUrl::parse(text, &place).is_err(), "{text:?} was taken as a collector");
    }
}

#[test]
fn whom_to_dial_is_a_name_or_an_address_with_a_port() {
    let fixture = Fixture::new("a.dial = [\"bridge.example.com:7443\", \"[::1]:7443\", \"10.0.0.1:7443\"]\n");
    let mut reader = fixture.open(&[]).unwrap();
    let targets: Vec<DialTarget> = reader.section("a").list("dial");
    let shown: Vec<_> = targets.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["bridge.example.com:7443", "[::1]:7443", "10.0.0.1:7443"]);
    for text in [
        "bridge",
        "bridge:",
        "bridge:0",
        "bridge:70000",
        ":7443",
        "https://bridge:7443",
        "a b:7443",
        "::1:7443",
    ] {
        let fixture = Fixture::new(&format!("a.dial = [{text:?}]\n"));
        let mistakes = fixture.mistakes(&[], |reader| {
            let _: Vec<DialTarget> = reader.section("a").list("dial");
        });
        assert_eq!(mistakes.len(), 1, "{text:?} was taken as a host with a port");
    }
}

#[test]
fn an_admin_listener_for_the_world_is_refused() {
    let fixture = Fixture::new("[admin]\nlisten = \"0.0.0.0:9080\"\n");
    let mistakes = fixture.mistakes(&[], |reader| {
        let _ = AdminConfig::read(reader, "127.0.0.1:9080");
    });
    assert_eq!(mistakes.len(), 1);
    assert!(
        mistakes.concat().starts_with("agent.toml:2: admin.listen: must be a loopback address"),
        "{mistakes:?}"
    );
}

#[test]
fn two_listeners_on_one_address_are_refused() {
    for (first, second, is_refused) in [
        ("127.0.0.1:9080", "127.0.0.1:9080", true),
        ("127.0.0.1:9080", "0.0.0.0:9080", true),
        ("[::]:9080", "[::1]:9080", true),
        ("127.0.0.1:9080", "127.0.0.2:9080", false),
        ("127.0.0.1:9080", "127.0.0.1:9081", false),
        // Each port 0 becomes a port of its own.
        ("127.0.0.1:0", "127.0.0.1:0", false),
    ] {
        let fixture = Fixture::new(&format!("a.listen = {first:?}\nb.listen = {second:?}\n"));
        let mistakes = fixture.mistakes(&[], |reader| {
            let first = reader.section("a").required("listen");
            let second = reader.section("b").required("listen");
            reader.refuse_shared(&[("a.listen", first), ("b.listen", second)]);
        });
        assert_eq!(mistakes.len(), usize::from(is_refused), "{first} {second}: {mistakes:?}");
        let expected = "agent.toml:2: b.listen: must not be an address of a.listen";
        assert!(mistakes.iter().all(|mistake| mistake.starts_with(expected)), "{mistakes:?}");
    }
}

#[test]
fn a_log_level_that_would_silence_the_agent_is_refused() {
    for (level, is_refused) in [
        ("warn", false),
        ("INFO", false),
        ("off", false),
        ("info,bridge_runtime=debug", false),
        ("warn,bridge_idc::orders", false),
        ("bridge_cloud[request{id=1}]=trace", false),
        ("wran", true),
        ("loud", true),
        ("info,bridge_runtime", false),
        ("info,bridge_runtim", true),
    ] {
        let fixture = Fixture::new(&format!("[log]\nlevel = {level:?}\n"));
        let mistakes = fixture.mistakes(&[], |reader| {
            let _ = LogConfig::read(reader);
        });
        assert_eq!(mistakes.len(), usize::from(is_refused), "{level}: {mistakes:?}");
        assert!(mistakes.iter().all(|mistake| mistake.starts_with("agent.toml:2: log.level: must be off")));
    }
}

#[test]
fn an_audit_key_named_like_a_file_beside_one_is_refused() {
    for (name, is_refused) in [
        ("log.seen", true),
        ("log.last", true),
        ("log.sock", true),
        ("log.new", true),
        ("audit.key", false),
        ("log.idc", false),
        ("seen", false),
    ] {
        let fixture = Fixture::new(&format!("[agent]\nname = \"a\"\n[audit]\nkey_file = \"{name}\"\n"));
        let mistakes = fixture.mistakes(&[], |reader| {
            let agent = AgentConfig::read(reader);
            let _ = AuditConfig::read(reader, Role::Idc, &agent);
        });
        let refused = "agent.toml:4: audit.key_file: must not end in .seen";
        assert_eq!(mistakes.iter().any(|mistake| mistake.starts_with(refused)), is_refused, "{mistakes:?}");
    }
}

#[test]
fn a_tunnel_nobody_dials_and_nobody_listens_to_is_refused() {
    let fixture = Fixture::new(
        "[tunnel]\ncertificate = \"pem\"\nkey = \"key\"\nca = \"pem\"\ncrl = \"pem\"\nheartbeat = \"5s\"\nidle_timeout = \"3s\"\n",
    );
    let fixture = fixture.file("pem", "", 0o644).file("key", "", 0o600);
    let mistakes = fixture.mistakes(&[], |reader| {
        let _ = TunnelConfig::read(reader);
    });
    let expected = [
        "agent.toml: tunnel.listen: must not be empty",
        "agent.toml: tunnel.silent_after: must be longer than tunnel.heartbeat",
        "agent.toml:7: tunnel.idle_timeout: must be longer",
    ];
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(expected), "{mistake}");
    }
}

#[test]
fn a_quantity_out_of_bounds_is_refused_and_all_bounds_are_toml() {
    let fixture = Fixture::new("[a]\nshort = \"99ms\"\nlong = \"3h\"\nedge = \"2h\"\nsize = \"2048 GiB\"\n");
    let read = |reader: &mut Reader| {
        let mut section = reader.section("a");
        for key in ["short", "long", "edge"] {
            let _: Duration = section.within(key, "100ms"..="2h", "1s");
        }
        let _: Option<BitRate> = section.within_or_off("rate", "64 kbit/s"..="1 Gbit/s", "off");
        let _: u8 = section.number("number", 1..=16, 4);
        let _: ByteSize = section.or("size", "1 MiB");
        let _: Duration = section.or("any", "1s");
        let _: String = section.or("word", "x");
    };
    assert_eq!(
        fixture.mistakes(&[], read),
        [
            "agent.toml:2: a.short: must be \"100ms\" to \"2h\", is \"99ms\"",
            "agent.toml:3: a.long: must be \"100ms\" to \"2h\", is \"3h\"",
            "agent.toml:5: a.size: must be a size in KiB, MiB or GiB, such as \"8 MiB\", is \"2048 GiB\"",
        ]
    );
    let mut reader = fixture.open(&[]).unwrap();
    read(&mut reader);
    let bounds: Vec<_> = reader.bounds().into_iter().map(|b| (b.key, b.smallest, b.largest)).collect();
    let expected = [
        ("a.short", "\"100ms\"", "\"2h\""),
        ("a.long", "\"100ms\"", "\"2h\""),
        ("a.edge", "\"100ms\"", "\"2h\""),
        ("a.rate", "\"64 kbit/s\"", "\"1 Gbit/s\""),
        ("a.number", "1", "16"),
        ("a.size", "\"1 KiB\"", "\"1024 GiB\""),
        ("a.any", "\"1ms\"", "\"24h\""),
    ];
    assert_eq!(
        bounds,
        expected.map(|(key, least, most)| (key.to_owned(), least.to_owned(), most.to_owned()))
    );
}
